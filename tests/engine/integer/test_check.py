"""Programs of integers that do not hold together are refused, rule by rule, in memory and from files."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.damage import array, at, operation, rewrite, value
from tests.engine.integer.damage import refused_or_run
from torch import nn

import convgate
from convgate.engine.check import check
from convgate.engine.file import load_program
from convgate.engine.program import (
    Element,
    IntegerAdd,
    IntegerConv,
    IntegerConvToFloat,
    IntegerMean,
    Lookup,
    Pool,
    Program,
    Quantize,
    Value,
)
from convgate.errors import ProgramError


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = F.relu(self.a(x))
        y = F.silu(self.b(x)) + F.silu(self.c(x))
        return self.fc(F.max_pool2d(self.b(y) + y, 2).mean((2, 3)))


@pytest.fixture(scope="module")
def engine():
    torch.manual_seed(0)
    return convgate.quantize(Small().eval(), [torch.randn(2, 3, 6, 6)], threads=1)


@pytest.fixture(scope="module")
def saved(engine, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "integers.cgm"
    engine.save(path)
    return path


BROKEN = {
    "weights of another type": (array(IntegerConv, "weight", lambda a: a.astype(np.int16)), "int16, not int8"),
    "a weight of -128": (array(IntegerConv, "weight", at(0, -128)), "-128"),
    "a bias that overflows": (array(IntegerConv, "bias", at(0, 2**31 - 1)), "leave an int32"),
    "the least bias": (array(IntegerConv, "bias", at(0, -(2**31))), "leave an int32"),
    "a multiplier too large": (array(IntegerConv, "multiplier", at(0, 1 << 15)), "0 .. 32767"),
    "a negative multiplier": (array(IntegerConv, "multiplier", at(0, -1)), "0 .. 32767"),
    "a shift of 0": (array(IntegerConv, "shift", at(0, 0)), "1 .. 46"),
    "a shift too large": (array(IntegerConv, "shift", at(0, 47)), "1 .. 46"),
    "no multiplier": (operation(IntegerConv, multiplier=""), "does not exist"),
    "an activation": (operation(IntegerConv, activation=convgate.engine.program.Activation("relu")), "clamps"),
    "a clamp without zero": (operation(IntegerConv, low=1), "clamp"),
    "a clamp past the type": (operation(IntegerConv, high=256), "clamp"),
    "a clamp that is no number": (operation(IntegerConv, high=True), "clamp"),
    "a sum's shift": (operation(IntegerAdd, shifts=(1, 0)), "shift"),
    "a sum's multiplier": (operation(IntegerAdd, multipliers=(1 << 15, 1)), "multiplier"),
    "a sum's clamp": (operation(IntegerAdd, low=-300), "clamp"),
    "a table of another type": (array(Lookup, "table", lambda a: a.astype(np.float32)), "float32, not"),
    "a table too short": (array(Lookup, "table", lambda a: a[:255]), "shape"),
    "a scale of another type": (array(IntegerConvToFloat, "scale", lambda a: a.astype(np.float64)), "float64"),
    "a scale that is infinite": (array(IntegerConvToFloat, "scale", at(0, np.inf)), "not finite"),
    "float32 where integers are read": (value(IntegerConv, element=Element.FLOAT32, scale=1.0), "float32"),
    "integers where float32 is written": (value(IntegerMean, element=Element.INT8), "takes float32"),
    "integers as outputs": (value(IntegerConvToFloat, element=Element.INT8, scale=0.1), "float32"),
    "a maximum of another scale": (value(Pool, scale=0.123), "one element type and scale"),
    "an average of integers": (operation(Pool, kind="average"), "takes float32"),
    "a scale of 0": (value(IntegerConv, scale=0.0), "a scale of 0"),
    "a scale of NaN": (value(IntegerConv, scale=float("nan")), "a scale of nan"),
    "a scale of float32": (value(IntegerMean, scale=2.0), "not scaled"),
    "an unknown element": (value(IntegerConv, element="int4"), "int4"),
    "a grid of a mask that is missing": (operation(IntegerMean, mask="nothing"), "does not exist"),
}


def test_a_mean_of_more_integers_than_their_sum_has_room_for_is_refused():
    def program(height, cells):
        bytes_of_it = Value("bytes", 1, height, 2048, Element.UINT8, 0.02)
        values = (Value("x", 1, height, 2048), bytes_of_it, Value("y", 1, *cells))
        operations = (Quantize(("x",), "bytes"), IntegerMean(("bytes",), "y", grid=cells))
        return Program(values, (), operations, ("x",), ("y",), {}, ())

    check(program(4096, (1, 1)))
    with pytest.raises(ProgramError, match="a mean of more than 8,388,608 integers"):
        check(program(4097, (1, 1)))
    check(program(4097, (2, 2)))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_programs_are_refused(engine, name):
    edit, message = BROKEN[name]
    with pytest.raises(ProgramError, match=message):
        check(edit(engine.program))


def test_the_program_itself_is_fine(engine):
    check(engine.program)


def test_files_before_version_4_had_no_elements(tmp_path):
    convgate.compile(Small().eval(), torch.zeros(1, 3, 6, 6), threads=1).save(tmp_path / "net.cgm")

    def change(data, arrays):
        data["version"] = 3
        for entry in data["values"]:
            del entry["element"], entry["scale"]

    assert load_program(rewrite(tmp_path / "net.cgm", change)).values == load_program(tmp_path / "net.cgm").values


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_anything_in_place_of_anything_is_refused_or_run(saved, data):
    """As for programs of float32; what is accepted runs."""
    refused_or_run(saved, data, ["int8", "uint8", "float32"])
