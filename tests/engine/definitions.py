"""What the operations of a program mean, in PyTorch's words: what the interpreter and the fuzz tests compare with."""

import torch
import torch.nn.functional as F

from convgate.engine.program import Activation

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "leaky_relu": F.leaky_relu,
    "elu": lambda x, alpha, scale, inside: scale * torch.where(x > 0, x, alpha * torch.expm1(inside * x)),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "mish": F.mish,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "clamp": torch.clamp,
}

EXAMPLES = (
    *(Activation(name) for name in ("none", "relu", "relu6", "hardswish", "silu", "sigmoid", "hardsigmoid")),
    *(Activation(name) for name in ("gelu", "gelu_tanh", "mish", "tanh")),
    Activation("leaky_relu", (0.1,)),
    Activation("elu", (1.7, 1.1, 0.5)),
    Activation("softplus", (2.0, 5.0)),
    Activation("clamp", (-0.5, 0.75)),
    Activation("clamp", (0.25, float("inf"))),
)
"""Each activation, with parameters of which none is the default."""


def activated(x, activation):
    return ACTIVATIONS[activation.name](x, *activation.parameters)


def dilated(mask, reach):
    """A mask [N, 1, H, W] that also opens what is at most `reach` rows and columns away: a window has an open one."""
    window = torch.ones(1, 1, *(2 * by + 1 for by in reach), dtype=mask.dtype)
    return (F.conv2d(mask, window, padding=reach) > 0.5).to(mask.dtype)


def prelu(op, value, arrays, x):
    return F.prelu(x, arrays(op.weight))


def arithmetic(op, value, arrays, x, y):
    return {"divide": torch.div, "maximum": torch.maximum, "minimum": torch.minimum}[op.arithmetic](x, y)


def constant(op, value, arrays):
    return arrays(op.weight)[None]


def interpolate(op, value, arrays, x, like=None):
    how = {"mode": op.mode} | ({"align_corners": op.align_corners} if op.mode == "bilinear" else {})
    if like is None and any(op.scales):
        y = F.interpolate(x, scale_factor=op.scales, **how)
        assert y.shape[2:] == (value.height, value.width)
        return y
    return F.interpolate(x, size=(value.height, value.width), **how)


def padded(op, value, arrays, x):
    top, left, bottom, right = op.padding
    fill = {"value": op.value} if op.mode == "constant" else {}
    return F.pad(x, (left, right, top, bottom), op.mode, **fill)


def normed(op, x, over):
    y = (x - x.mean(over, keepdim=True)) / (x.var(over, keepdim=True, correction=0) + op.epsilon).sqrt()
    return y.flatten(1, 2) if y.dim() == 5 else y


def scaled(op, arrays, y):
    y = y * arrays(op.scale)[:, None, None] if op.scale else y
    return y + arrays(op.shift)[:, None, None] if op.shift else y


def group_norm(op, value, arrays, x):
    return scaled(op, arrays, normed(op, x.unflatten(1, (op.groups, -1)), (2, 3, 4)))


def layer_norm(op, value, arrays, x):
    return scaled(op, arrays, normed(op, x, 1))


def transposed(op, arrays, x):
    bias = arrays(op.bias) if op.bias else None
    how = op.stride, op.padding, op.output_padding, op.groups, op.dilation
    return F.conv_transpose2d(x, arrays(op.weight), bias, *how)


OPERATIONS = {
    "PRelu": prelu,
    "Arithmetic": arithmetic,
    "Constant": constant,
    "ConvTranspose": lambda op, value, arrays, x: activated(transposed(op, arrays, x), op.activation),
    "GroupNorm": group_norm,
    "Interpolate": interpolate,
    "LayerNorm": layer_norm,
    "OverChannels": lambda op, value, arrays, x: (x.amax if op.maximum else x.mean)(1, keepdim=True),
    "Pad": padded,
    "PixelShuffle": lambda op, value, arrays, x: F.pixel_shuffle(x, op.factor),
    "PixelUnshuffle": lambda op, value, arrays, x: F.pixel_unshuffle(x, op.factor),
    "Reshape": lambda op, value, arrays, x: x.reshape(len(x), *value.shape),
    "Softmax": lambda op, value, arrays, x: x.softmax(1),
}
"""Kind of operation -> function(operation, value that it writes, name -> array, inputs [N, C, H, W])."""
