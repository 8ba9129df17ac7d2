"""Sums, products, quotients, maxima and minima of feature maps, vectors and constants."""

from typing import Any

import torch

from convgate.engine.lowering import layers
from convgate.engine.lowering.draft import Context, Expanded, Symbol, Unsupported
from convgate.engine.program import Add, Arithmetic, Constant, Multiply

__all__ = ["add", "divide", "maximum", "minimum", "multiply", "negative", "subtract"]

_CONSTANT = (int, float, torch.Tensor)


def add(c: Context, x: Any, y: Any, *, alpha: float = 1) -> Symbol:
    """`torch.add`."""
    if isinstance(x, _CONSTANT):
        return _affine(c, y, alpha, x)
    if isinstance(y, _CONSTANT):
        return _affine(c, x, 1, y * alpha)
    return _binary(c, x, y if alpha == 1 else layers.affine(c.draft, c.name, y, alpha), Add)


def subtract(c: Context, x: Any, y: Any, *, alpha: float = 1) -> Symbol:
    """`torch.sub`."""
    return add(c, x, y, alpha=-alpha)


def multiply(c: Context, x: Any, y: Any) -> Symbol:
    """`torch.mul`."""
    if isinstance(x, _CONSTANT):
        x, y = y, x
    return _affine(c, x, y) if isinstance(y, _CONSTANT) else _binary(c, x, y, Multiply)


def divide(c: Context, x: Any, y: Any, *, rounding_mode: str | None = None) -> Symbol:
    """`torch.div`."""
    if rounding_mode is not None:
        raise Unsupported("a division that rounds")
    return _affine(c, x, 1 / y) if isinstance(y, _CONSTANT) else _binary(c, x, y, "divide")


def negative(c: Context, x: Any) -> Symbol:
    """`torch.neg`."""
    return layers.affine(c.draft, c.name, x, -1)


def maximum(c: Context, x: Any, y: Any) -> Symbol:
    """`torch.maximum`."""
    return _binary(c, x, y, "maximum")


def minimum(c: Context, x: Any, y: Any) -> Symbol:
    """`torch.minimum`."""
    return _binary(c, x, y, "minimum")


def _affine(c: Context, x: Symbol, factor: Any, summand: Any = 0) -> Symbol:
    """X * factor + summand: by channel where the two are the same at every position, else with constant maps."""
    c.draft.value_of(x)
    if all(layers.is_per_channel(constant, x.shape) for constant in (factor, summand)):
        return layers.affine(c.draft, c.name, x, factor, summand)
    if not layers.is_per_channel(factor, x.shape):
        x = _binary(c, x, factor, Multiply)
    elif not isinstance(factor, int) or factor != 1:
        x = layers.affine(c.draft, c.name, x, factor)
    return x if isinstance(summand, int) and summand == 0 else _binary(c, x, summand, Add)


def _constant(c: Context, given: Any, rank: int) -> Symbol:
    """A constant as a value that is spread over tensors of `rank` dimensions, without the batch."""
    tensor = torch.as_tensor(given, dtype=torch.float32)
    if tensor.dim() > rank:
        if tensor.shape[0] != 1 or tensor.dim() > rank + 1:
            raise Unsupported(f"a constant of shape {list(tensor.shape)}")
        tensor = tensor[0]
    tensor = tensor.reshape((1,) * (rank - tensor.dim()) + tuple(tensor.shape))
    out = c.draft.new(f"{c.name}.constant", tuple(tensor.shape))
    array = tensor.reshape(c.draft.values[out.value].shape)
    c.draft.emit(Constant((), out.value, c.draft.array(f"{c.name}.constant", array)))
    return out


def _binary(c: Context, x: Any, y: Any, kind: type[Add] | type[Multiply] | str) -> Symbol:
    """A sum, a product, or what `Arithmetic` calls `kind`."""
    what = kind if isinstance(kind, str) else kind.__name__.lower()
    x, y = (_unexpanded(operand, other, what) for operand, other in ((x, y), (y, x)))
    ranks = [len(operand.shape) for operand in (x, y) if isinstance(operand, Symbol)]
    if not ranks:
        raise Unsupported(f"{what} of two sequences of tokens (maps whose positions were made rows)")
    rank = max(ranks)
    x, y = (_constant(c, operand, rank) if isinstance(operand, _CONSTANT) else operand for operand in (x, y))
    c.draft.value_of(x), c.draft.value_of(y)
    shapes = list(x.shape), list(y.shape)
    if len(x.shape) != len(y.shape):
        raise Unsupported(f"{what} of shapes {shapes[0]} and {shapes[1]}: a vector and a map")
    sizes = [{a, b} - {1} for a, b in zip(*shapes, strict=True)]
    if any(len(size) > 1 for size in sizes):
        raise Unsupported(f"{what} of shapes {shapes[0]} and {shapes[1]}")
    shape = tuple(max(size, default=1) for size in sizes)
    if y.shape == shape != x.shape and not isinstance(kind, str):
        x, y = y, x
    out = c.draft.new(c.name, shape)
    inputs = x.value, y.value
    c.draft.emit(Arithmetic(inputs, out.value, kind) if isinstance(kind, str) else kind(inputs, out.value))
    return out


def _unexpanded(operand: Any, other: Any, what: str) -> Any:
    if not isinstance(operand, Expanded):
        return operand
    if not isinstance(other, Symbol) or other.shape != operand.over:
        raise Unsupported(f"{what} of a map that was expanded to {list(operand.over)}")
    return operand.vector
