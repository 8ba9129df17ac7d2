"""Convolutions of many channels to few outputs, as in the spatial gates' heads, whose taps are computed apart."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from convgate.engine.engine import Engine
from convgate.engine.program import Activation, Conv, Program, Value
from convgate.engine.runtime import instruction_sets

GEOMETRY = {
    "3x3": ((7, 7), 1, (3, 3), (1, 1), (1, 1, 1, 1)),
    "5x3": ((9, 4), 1, (5, 3), (1, 1), (2, 1, 2, 1)),
    "dilated": ((8, 9), 1, (3, 3), (2, 3), (2, 3, 2, 3)),
    "four outputs": ((6, 5), 4, (2, 2), (1, 1), (0, 0, 1, 1)),
    "not padded": ((6, 5), 1, (3, 3), (1, 1), (0, 0, 0, 0)),
    "padded beyond": ((2, 3), 1, (3, 3), (1, 1), (3, 4, 2, 1)),
    "a line": ((1, 40), 2, (1, 5), (1, 1), (0, 2, 0, 2)),
}


def program(geometry, channels, activation, bias):
    size, outs, kernel, dilation, padding = geometry
    rng = np.random.default_rng(channels)
    top, left, bottom, right = padding
    height = size[0] + top + bottom - dilation[0] * (kernel[0] - 1)
    width = size[1] + left + right - dilation[1] * (kernel[1] - 1)
    arrays = {"w": rng.standard_normal((outs, channels, *kernel)).astype(np.float32)}
    if bias:
        arrays["b"] = rng.standard_normal(outs).astype(np.float32)
    conv = Conv(
        ("x",), "y", "w", "b" if bias else "", "layer", padding=padding, dilation=dilation, activation=activation
    )
    values = (Value("x", channels, *size), Value("y", outs, height, width))
    return Program(values, (), (conv,), ("x",), ("y",), arrays, ("layer",))


@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("channels", [100, 128, 203])
def test_as_defined(isa, name, channels):
    activation = Activation(*(("sigmoid",) if channels == 203 else ("relu",) if channels == 128 else ()))
    given = program(GEOMETRY[name], channels, activation, bias=channels != 128)
    x = np.random.default_rng(1).standard_normal((2, *given.value("x").shape), np.float32)
    engine = Engine(given, threads=1, isa=isa)
    run = engine.run(x)
    _, _, _kernel, dilation, (top, left, bottom, right) = GEOMETRY[name]
    weight, bias = (torch.from_numpy(given.arrays[key]) if key in given.arrays else None for key in ("w", "b"))
    padded = F.pad(torch.from_numpy(x), (left, right, top, bottom))
    wanted = F.conv2d(padded, weight, bias, dilation=dilation)
    wanted = {"none": wanted, "relu": wanted.relu(), "sigmoid": wanted.sigmoid()}[activation.name]
    np.testing.assert_allclose(run.outputs[0], wanted.numpy(), atol=2e-5 * channels**0.5, rtol=1e-4)
    out = given.value("y")
    assert run.macs.tolist() == [out.height * out.width * weight[0].numel() * len(weight)] * 2
    np.testing.assert_array_equal(Engine(given, threads=3, isa=isa)(x), run.outputs[0])
