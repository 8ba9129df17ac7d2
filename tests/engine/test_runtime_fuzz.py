"""The native runtime on random programs against PyTorch in double precision, and under calls from several threads."""

import resource
import sys
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.interpreter import interpret
from tests.engine.programs import images, masks, programs

from convgate.engine.engine import Engine
from convgate.engine.program import Activation, Conv, Decide, Gate, PoolToGrid, Program, Value
from convgate.engine.runtime import instruction_sets
from convgate.errors import InputError

ISAS = instruction_sets()
random_programs = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def assert_close(found, wanted, what=""):
    scale = max(1.0, wanted.abs().max().item())
    error = (torch.from_numpy(np.ascontiguousarray(found)).double() - wanted).abs().max().item()
    assert error <= 1e-5 * scale, f"{what}: {error:.2e} for values up to {scale:.2e}"


def assert_right(engine, inputs, given_masks):
    """A run's outputs, decisions and MACs are those that follow from the program and the masks that it reports."""
    program, run = engine.program, engine.run(*inputs, given=given_masks)
    wanted = interpret(program, inputs, {name: d.mask for name, d in run.decisions.items()}, torch.float64)
    for name, array in zip(program.outputs, run.outputs, strict=True):
        assert_close(array, wanted.values[name], name)
    for name, decision in run.decisions.items():
        if name in given_masks:
            assert np.array_equal(decision.mask, given_masks[name])
            assert decision.logits is None
        else:
            assert_close(decision.logits, wanted.logits[name], name)
            strict = next(op.strict for op in program.operations if isinstance(op, Decide) and op.output == name)
            assert np.array_equal(decision.mask, decision.logits > 0 if strict else decision.logits >= 0)
    assert {layer: macs.tolist() for layer, macs in run.by_layer.items()} == {
        layer: wanted.macs[layer].tolist() for layer in program.layers
    }
    assert run.macs.tolist() == sum(run.by_layer.values(), np.zeros(len(inputs[0]), np.int64)).tolist()
    return run


@pytest.mark.parametrize("isa", ISAS)
@random_programs
@given(
    program=programs(),
    threads=st.integers(1, 4),
    batch=st.integers(1, 5),
    share=st.sampled_from((0.0, 0.3, 0.7, 1.0)),
    given_gates=st.sampled_from((0, 1, 2)),
)
def test_random_programs(isa, program, threads, batch, share, given_gates):
    engine = Engine(program, threads=threads, isa=isa)
    # All masks given, every second one, or none.
    drawn = masks(program, batch, share)
    some = {name: mask for n, (name, mask) in enumerate(drawn.items()) if given_gates and n % given_gates == 0}
    inputs = images(program, batch)
    first = assert_right(engine, inputs, some)
    # What a call leaves in memory does not matter to the next.
    engine.run(*(1e3 * x for x in images(program, 2, seed=1)))
    again = engine.run(*inputs, given=some)
    for a, b in zip(first.outputs, again.outputs, strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(first.macs, again.macs)


def gated(channels=24, size=20, units=8):
    """conv -> gated conv, whose gate is decided by the first's mean."""
    rng = np.random.default_rng(0)
    arrays = {
        "first": rng.standard_normal((channels, 3, 3, 3)).astype(np.float32),
        "head": rng.standard_normal((units, channels, 1, 1)).astype(np.float32),
        "offset": np.zeros((units, 1, 1), np.float32),
        "second": rng.standard_normal((channels, channels, 3, 3)).astype(np.float32) / 10,
    }
    values = [Value("x", 3, size, size), Value("a", channels, size, size), Value("y", channels, size, size)]
    values += [Value("mean", channels, 1, 1), Value("logits", units, 1, 1)]
    operations = (
        Conv(("x",), "a", "first", "", "a", padding=(1, 1, 1, 1), activation=Activation("relu")),
        PoolToGrid(("a",), "mean"),
        Conv(("mean",), "logits", "head", "", "gate"),
        Decide(("logits",), "gate", "offset"),
        Conv(("a",), "y", "second", "", "y", padding=(1, 1, 1, 1), out_channels="gate"),
    )
    gates = (Gate("gate", "channel", (units, 1, 1), -(-channels // units)),)
    return Program(tuple(values), gates, operations, ("x",), ("y",), arrays, ("a", "gate", "y"))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 4])
def test_sparse_output_channels(isa, threads):
    # Open channels further apart than a vector is long, at more positions than are computed without packed weights;
    # the dilation makes every tap a run of its own, and several threads pack them.
    units, rng = 640, np.random.default_rng(0)
    arrays = {
        "head": rng.standard_normal((units, 16, 1, 1)).astype(np.float32),
        "offset": np.zeros((units, 1, 1), np.float32),
        "weight": rng.standard_normal((units, 16, 5, 5)).astype(np.float32) / 20,
    }
    values = (Value("x", 16, 20, 20), Value("mean", 16, 1, 1), Value("logits", units, 1, 1), Value("y", units, 16, 20))
    operations = (
        PoolToGrid(("x",), "mean"),
        Conv(("mean",), "logits", "head", "", "gate"),
        Decide(("logits",), "gate", "offset"),
        Conv(("x",), "y", "weight", "", "y", padding=(0, 4, 0, 4), dilation=(1, 2), out_channels="gate"),
    )
    program = Program(
        values, (Gate("gate", "channel", (units, 1, 1)),), operations, ("x",), ("y",), arrays, ("gate", "y")
    )
    engine, x = Engine(program, threads=threads, isa=isa), images(program, 1)
    mask = np.zeros((1, units, 1, 1), np.uint8)
    mask[:, ::20] = 1
    wanted = interpret(program, x, {"gate": mask}, torch.float64).values["y"]
    for _ in range(20):
        assert_close(engine.run(*x, given={"gate": mask}).outputs[0], wanted)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("threads", [1, 3])
def test_inputs_that_are_not_finite_are_an_error_in_any_sample(isa, bad, threads):
    engine = Engine(gated(), threads=threads, isa=isa)
    good = images(engine.program, 5)[0]
    before = engine(good)
    for sample in (0, 4):
        x = good.copy()
        x[sample, 2, -1, -1] = bad
        with pytest.raises(InputError, match="not finite"):
            engine(x)
    assert np.array_equal(engine(good), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0], "shape"),
        (lambda x: x[:, :2], "shape"),
        (lambda x: x[:, :, 1:], "shape"),
        (lambda x: x[:0], "shape"),
        (lambda x: x.astype(np.float64), "float64"),
        (lambda x: x.astype(np.uint8), "uint8"),
    ],
)
def test_wrong_inputs_are_errors(change, message):
    engine = Engine(gated(), threads=1)
    with pytest.raises(InputError, match=message):
        engine(change(images(engine.program, 2)[0]))


@pytest.mark.parametrize(
    "given_masks",
    [
        {"other": np.ones((2, 8, 1, 1))},
        {"gate": np.ones((2, 7, 1, 1))},
        {"gate": np.ones((1, 8, 1, 1))},
        {"gate": np.full((2, 8, 1, 1), 2)},
        {"gate": np.full((2, 8, 1, 1), 0.5)},
    ],
)
def test_wrong_masks_are_errors(given_masks):
    engine = Engine(gated(), threads=1)
    with pytest.raises(InputError, match="gate"):
        engine.run(*images(engine.program, 2), given=given_masks)


def test_inputs_need_not_be_contiguous():
    engine = Engine(gated(), threads=1)
    x = images(engine.program, 2)[0]
    strided = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not strided.flags.c_contiguous
    assert np.array_equal(engine(strided), engine(x))


def in_threads(*functions):
    """Run all at once; raises what any of them raised."""
    errors, barrier = [], threading.Barrier(len(functions))

    def run(function):
        barrier.wait()
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("own", [True, False], ids=["several engines", "one engine"])
def test_calls_from_several_threads(own):
    program = gated()
    engines = [Engine(program, threads=2) for _ in range(4)] if own else 4 * [Engine(program, threads=2)]

    def work(number):
        x = images(program, 1 + number, seed=number)
        drawn = masks(program, 1 + number, 0.5, seed=number)
        wanted = interpret(program, x, drawn, torch.float64)
        for _ in range(20):
            run = engines[number].run(*x, given=drawn)
            assert_close(run.outputs[0], wanted.values["y"])
            assert run.by_layer["y"].tolist() == wanted.macs["y"].tolist()

    in_threads(*(lambda number=number: work(number) for number in range(4)))


def test_the_interpreter_lock_is_released():
    engine = Engine(gated(channels=96, size=64), threads=1, isa="scalar")
    x = images(engine.program, 4)
    engine(*x)
    interval = sys.getswitchinterval()
    progress = []

    def call():
        begin = time.perf_counter()
        engine(*x)
        progress.append((begin, time.perf_counter()))

    ticks = []
    # A call that kept the lock would not be interrupted, whatever the switch interval.
    sys.setswitchinterval(1e-4)
    try:
        thread = threading.Thread(target=call)
        thread.start()
        while thread.is_alive():
            ticks.append(time.perf_counter())
            time.sleep(1e-4)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    begin, end = progress[0]
    inside = [t for t in ticks if begin + 0.1 * (end - begin) < t < end - 0.1 * (end - begin)]
    assert len(inside) >= 5, f"{len(inside)} steps of another thread in {end - begin:.3f} s"


def test_calls_do_not_grow_memory():
    engine = Engine(gated(channels=64, size=32), threads=2)
    x = images(engine.program, 3)

    def pages():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    for _ in range(20):
        engine.run(*x)
    before = pages()
    for _ in range(200):
        engine.run(*x)
    # One call's outputs alone would be 150 MB in 200 calls.
    assert (pages() - before) * resource.getpagesize() < 8 << 20
