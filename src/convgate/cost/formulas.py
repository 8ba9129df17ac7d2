"""MACs of the operations that `torch.utils.flop_counter` does not count.

One function per ATen operation: shapes of its arguments -> multiply-accumulates. What PyTorch breaks down into matrix
products and convolutions (linear layers, `einsum`, `nn.MultiheadAttention`, GRUs, ..) needs no formula here: its parts
are counted. Only multiply-accumulates count; element-wise arithmetic, norms, softmax and pooling do not.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

__all__ = ["flop_formulas", "formulas"]

Shape = Sequence[int]

_aten = torch.ops.aten


def attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scaled dot-product attention, `softmax(Q K^T) V`: `B * heads * L * S * (E + E_v)`.

    Q [B, heads, L, E], K [B, heads, S, E], V [B, heads, S, E_v]; keys and values may have fewer heads. A mask saves
    nothing: all L * S scores are computed.
    Source: Vaswani et al., Attention Is All You Need, NIPS 2017, section 3.2.1 and table 1. PyTorch's counter lacks the
    kernel that CPUs use (pytorch issue 195460).
    """
    *batch_and_heads, length, depth = query
    return math.prod(batch_and_heads) * length * key[-2] * (depth + value[-1])


def matrix_vector(matrix: Shape, *_: Any, **__: Any) -> int:
    """`mv`, [n, m] times [m]: `n * m`."""
    return math.prod(matrix)


def added_matrix_vector(_added: Shape, matrix: Shape, *_: Any, **__: Any) -> int:
    """`addmv`, as `mv`: `n * m`. The addition is not counted."""
    return math.prod(matrix)


def scalar_product(first: Shape, *_: Any, **__: Any) -> int:
    """`dot` of two vectors [n]: `n`."""
    return math.prod(first)


def added_product(_added: Shape, first: Shape, second: Shape, *_: Any, **__: Any) -> int:
    """`addbmm` and the fused `_addmm_activation`, [.., n, m] times [.., m, p]: `.. * n * m * p`."""
    return math.prod(first) * second[-1]


def bilinear(first: Shape, second: Shape, third: Shape, *expanded: Any, **_: Any) -> int:
    """`nn.Bilinear`, y_k = x1^T W_k x2: one for each weight, `N * out * in1 * in2`.

    PyTorch computes it as `_trilinear`: three factors, which are broadcast along the dimensions that the next three
    arguments name, are multiplied and summed. Source: `aten/src/ATen/native/Linear.cpp`.
    """
    shapes = [list(shape) for shape in (first, second, third)]
    for shape, dimensions in zip(shapes, expanded, strict=False):
        for dimension in sorted(dimensions):
            shape.insert(dimension, 1)
    return math.prod(max(sizes) for sizes in zip(*shapes, strict=True))


def lstm_layer(inputs: Shape, input_weight: Shape, hidden_weight: Shape, *_: Any, **__: Any) -> int:
    """One layer and direction of an LSTM, as oneDNN computes it: `T * B * 4H * (input + H)`.

    Inputs [T, B, input], weights [4H, input] and [4H, H]. Source: the equations in `torch.nn.LSTM`'s documentation.
    """
    return math.prod(inputs[:-1]) * (math.prod(input_weight) + math.prod(hidden_weight))


def recurrent_layers(inputs: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """All layers and directions of an RNN, GRU or LSTM, as cuDNN computes them: `T * B` times their matrices' elements.

    Every matrix, [gates * H, input] or [gates * H, H], multiplies one vector in each step.
    Source: the equations in the documentation of `torch.nn.RNN`, `GRU` and `LSTM`.
    """
    return math.prod(inputs[:-1]) * sum(math.prod(weight) for weight in weights if len(weight) == 2)


def deformable_convolution(_inputs: Shape, weight: Shape, *_: Any, out_shape: Sequence[int] = (), **__: Any) -> int:
    """`torchvision.ops.deform_conv2d`, as the convolution that it deforms: `N * H * W * out * in / groups * kernel`.

    Interpolating its inputs is not counted. Source: Dai et al., Deformable Convolutional Networks, ICCV 2017.
    """
    return out_shape[0] * math.prod(out_shape[2:]) * math.prod(weight)


@functools.cache
def formulas() -> Mapping[Any, Callable[..., int]]:
    """ATen operation -> a function from the shapes of its arguments (and `out_shape`, its result's) to its MACs."""
    found: dict[Any, Callable[..., int]] = {
        _aten._scaled_dot_product_flash_attention_for_cpu: attention,
        _aten.mv: matrix_vector,
        _aten.addmv: added_matrix_vector,
        _aten.dot: scalar_product,
        _aten.vdot: scalar_product,
        _aten.addbmm: added_product,
        _aten._addmm_activation: added_product,
        _aten._trilinear: bilinear,
        _aten.mkldnn_rnn_layer: lstm_layer,
        _aten._cudnn_rnn: recurrent_layers,
    }
    try:
        import torchvision  # noqa: F401 - registers its operations
    except ImportError:
        return found
    return {**found, torch.ops.torchvision.deform_conv2d: deformable_convolution}


def flop_formulas() -> dict[Any, Callable[..., int]]:
    """The same formulas in the form that `torch.utils.flop_counter.FlopCounterMode` takes: two FLOPs per MAC."""
    return {operation: _doubled(formula) for operation, formula in formulas().items()}


def _doubled(formula: Callable[..., int]) -> Callable[..., int]:
    return lambda *shapes, **options: 2 * formula(*shapes, **options)
