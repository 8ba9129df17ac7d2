"""Programs of partial sums that do not hold together are refused, in memory and from files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.damage import array, at, operation, value
from tests.engine.integer.damage import refused_or_run
from torch import nn

import convgate
from convgate.engine.check import check
from convgate.engine.program import (
    Dequantize,
    Element,
    IntegerComplete,
    IntegerConv,
    IntegerConvToSums,
    IntegerDecide,
    Slice,
    Value,
)
from convgate.errors import ProgramError


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(self.a(x))
        return self.fc(torch.relu(self.b(x) + x).mean((2, 3)))


@pytest.fixture(scope="module")
def engine():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 6, 6)
    method = convgate.ChannelGating(partitions=2, group=2)
    return convgate.quantize(convgate.gate(Small().eval(), method, images).eval(), [images], threads=1)


@pytest.fixture(scope="module")
def saved(engine, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "sums.cgm"
    engine.save(path)
    return path


def reading_sums(kind, **fields):
    """The sums, read by another operation as well."""

    def change(program):
        sums = next(program.value(op.output) for op in program.operations if type(op) is IntegerConvToSums)
        after = replace(sums, name="after") if kind is Slice else Value("after", *sums.shape)
        return replace(
            program,
            values=(*program.values, after),
            operations=(*program.operations, kind((sums.name,), "after", **fields)),
        )

    return change


BROKEN = {
    "weights of another type": (array(IntegerConvToSums, "weight", lambda a: a.astype(np.float32)), "not int8"),
    "a bias that overflows": (array(IntegerConvToSums, "bias", at(0, 2**31 - 1)), "leave an int32"),
    "sums of float32": (value(IntegerConvToSums, element=Element.FLOAT32), "partial sums are int32"),
    "sums with a scale": (value(IntegerConvToSums, scale=0.5), "not scaled"),
    "sums written by another convolution": (value(IntegerConv, element=Element.INT32, scale=1.0), "8 bits"),
    "sums that are moved": (reading_sums(Slice, begin=0), "one element type"),
    "sums as float32": (reading_sums(Dequantize), "8 bits"),
    "an offset of another type": (array(IntegerDecide, "offset", lambda a: a.astype(np.int64)), "not int32"),
    "an offset that overflows": (array(IntegerDecide, "offset", at(0, -(2**31))), "leave an int32"),
    "logits without a scale": (operation(IntegerDecide, scale=""), "does not exist"),
    "logits of a negative scale": (array(IntegerDecide, "scale", at(0, -1.0)), "not above 0"),
    "logits that are shifted": (operation(IntegerDecide, shift="b"), "shifts partial sums"),
    "no bias": (operation(IntegerComplete, bias=""), "does not exist"),
    "an open bias that overflows": (array(IntegerComplete, "open_bias", at(0, 2**31 - 1)), "leave an int32"),
    "a multiplier too large": (array(IntegerComplete, "multiplier", at(0, -(1 << 15))), "-32767 .. 32767"),
    "a shift of 0": (array(IntegerComplete, "open_shift", at(0, 0)), "1 .. 46"),
    "a weight of -128": (array(IntegerComplete, "weight", at(0, -128)), "-128"),
    "a shortcut's shift": (operation(IntegerComplete, addend=(1, 47)), "shift"),
    "a clamp past the type": (operation(IntegerComplete, high=256), "clamp"),
    "no gate": (operation(IntegerComplete, gate=""), "no gate"),
    "results of float32": (value(IntegerComplete, element=Element.FLOAT32, scale=1.0), "8 bits"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_programs_are_refused(engine, name):
    edit, message = BROKEN[name]
    with pytest.raises(ProgramError, match=message):
        check(edit(engine.program))


def test_the_program_itself_is_fine(engine):
    check(engine.program)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_anything_in_place_of_anything_is_refused_or_run(saved, data):
    """What is accepted runs."""
    refused_or_run(saved, data, ["int8", "int32", "float32"])
