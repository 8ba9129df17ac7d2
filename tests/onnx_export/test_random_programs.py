"""Random programs, of floats and of 8-bit integers, in ONNX Runtime and in the engine."""

import os
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from tests.engine.programs import images, programs
from tests.engine.test_int8 import convolutions, quantised
from tests.engine.test_int8_partial import completions

pytest.importorskip("onnxruntime")

from tests.onnx_export.runtime import distance, run_file

from convgate.engine.engine import Engine
from convgate.onnx_export import export_onnx

RANDOM = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def both(program, inputs, optimised):
    """What ONNX Runtime gives, the engine's run, and whether all decisions are equal."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.onnx")
        export_onnx(program, path, masks=True)
        found = run_file(path, *inputs, optimised=optimised)
    run = Engine(program, threads=1).run(*inputs)
    alike = all(np.array_equal(found[f"mask.{name}"], decision.mask) for name, decision in run.decisions.items())
    return list(found.values())[: len(run.outputs)], run, alike


def whole_steps(program, batch, seed):
    """Random inputs that are whole numbers of steps of 0.05: none lies between two integers."""
    return [np.float32(0.05) * np.clip(np.rint(20 * x), -127, 127) for x in images(program, batch, seed)]


@RANDOM
@given(program=programs(), batch=st.integers(1, 3), optimised=st.booleans())
def test_floats(program, batch, optimised):
    found, run, alike = both(program, images(program, batch), optimised)
    if not alike:  # sums are formed in another order
        assert min(np.abs(decision.logits).min() for decision in run.decisions.values()) < 1e-5
        reject()
    for mine, wanted in zip(found, run.outputs, strict=True):
        assert mine.shape == wanted.shape
        assert np.abs(mine - wanted).max() <= 1e-4 * max(1.0, np.abs(wanted).max())


@RANDOM
@given(program=programs(), tie=st.booleans(), heads=st.sampled_from((None, 0)), optimised=st.booleans())
def test_quantised(program, tie, heads, optimised):
    integers = quantised(program, tie=tie, heads=heads)
    found, run, alike = both(integers, images(program, 2, 1), optimised)
    if not alike:  # a logit that a step of rounding takes past zero
        reject()
    for mine, wanted in zip(found, run.outputs, strict=True):
        assert distance(mine, wanted) < 0.15


@RANDOM
@given(program=convolutions(), seed=st.integers(0, 99), optimised=st.booleans())
def test_convolutions_of_integers_are_a_step_away_at_most(program, seed, optimised):
    # Any multipliers, addends, clamps and masks.
    found, run, alike = both(program, whole_steps(program, 2, seed), optimised)
    assert alike
    first, second = (np.rint(np.abs(found[i] - run.outputs[i]) / 0.05) for i in (1, 2))
    assert first.max() <= 1
    if not first.any():
        assert second.max() <= 1


@RANDOM
@given(program=completions(), seed=st.integers(0, 99), optimised=st.booleans())
def test_completions_decide_alike_and_are_a_step_away_at_most(program, seed, optimised):
    found, run, alike = both(program, whole_steps(program, 2, seed), optimised)
    assert alike
    assert np.rint(np.abs(found[0] - run.outputs[0]) / 0.1).max() <= 1
