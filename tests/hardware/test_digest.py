"""What a trace is tied to: everything that a network computes, and neither its file nor the size of its images."""

from dataclasses import replace

import numpy as np
import pytest
from tests.hardware.programs import METHODS, engine_of, images_of, trace_of

import convgate
from convgate.engine import Engine
from convgate.engine.program import Conv
from convgate.engine.sizes import at
from convgate.errors import InputError
from convgate.hardware import record
from convgate.hardware.digest import _first, digest, fits


def changed(program, change):
    """The program with another form of its first 3x3 convolution."""
    first = next(op for op in program.operations if isinstance(op, Conv))
    operations = tuple(change(op) if op is first else op for op in program.operations)
    return replace(program, operations=operations)


@pytest.mark.parametrize(
    "change",
    [
        lambda op: replace(op, stride=(2, 2)),
        lambda op: replace(op, dilation=(2, 2), padding=(2, 2, 2, 2)),
        lambda op: replace(op, inputs=(op.output,)),
    ],
    ids=["stride", "dilation", "wiring"],
)
def test_stride_dilation_and_wiring_are_covered(change):
    program = engine_of("dual")[0].program
    other = changed(program, change)
    assert _first(other) == _first(program)
    assert digest(other) != digest(program)
    with pytest.raises(InputError, match="another network"):
        trace_of(program, 2).check(other)


def test_outputs_are_covered():
    program = engine_of("dual")[0].program
    assert digest(replace(program, outputs=program.outputs * 2)) != digest(program)


@pytest.mark.parametrize("method", METHODS)
def test_neither_the_file_nor_the_size_of_images_matters(method, tmp_path):
    engine, _ = engine_of(method)
    before = digest(engine.program)
    engine.save(tmp_path / "net.cgm")
    loaded = convgate.engine.load(tmp_path / "net.cgm").program
    assert digest(loaded) == before
    if not loaded.fixed:
        assert digest(at(loaded, 48, 40)) == before


def test_what_is_recorded_belongs_to_the_program_as_it_is_saved():
    """An engine finds out late what follows from the size of its images."""
    program = engine_of("dual")[0].program
    settled = changed(program, lambda op: replace(op, dilation=(2, 2), padding=(2, 2, 2, 2)))
    engine = Engine(program, threads=1, settle=lambda _: settled)
    trace = record(engine, images_of(program, 1))
    assert fits(settled, trace.program)
    assert engine.program is settled


def test_digests_of_before_are_compared_by_the_rule_of_before():
    program = engine_of("dual")[0].program
    weights = {name: array + np.float32(1) for name, array in program.arrays.items()}
    assert fits(program, _first(program))
    assert fits(program, digest(program))
    assert not fits(replace(program, arrays=weights), _first(program))
