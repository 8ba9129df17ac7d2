"""Calls that compute nothing: tensors in other shapes, parts of them, what surrounds them, questions about them."""

import math
from dataclasses import replace
from typing import Any

import torch

from convgate.engine.lowering import layers
from convgate.engine.lowering.draft import Context, Draft, Expanded, GateSymbol, Rowed, Symbol, Unsupported
from convgate.engine.program import Slice

__all__ = [
    "as_rows",
    "attribute",
    "chunk",
    "concatenated_rows",
    "expand",
    "expand_as",
    "flatten",
    "item",
    "pad",
    "permute",
    "rank",
    "shuffle",
    "size",
    "split",
    "squeeze",
    "transpose",
    "unsqueeze",
    "view",
]


def _slice(c: Context, x: Symbol, begin: int, channels: int) -> Symbol:
    c.draft.value_of(x)
    out = c.draft.new(c.name, (channels, *x.shape[1:]))
    c.draft.emit(Slice((x.value,), out.value, begin))
    return out


def split(c: Context, x: Symbol, size: Any, dim: int = 0) -> tuple[Symbol, ...]:
    """`Tensor.split` along channels."""
    value = c.draft.value_of(x)
    if dim not in (1, -len(x.shape)):
        raise Unsupported("a split along something else than channels")
    sizes = [min(size, value.channels - i) for i in range(0, value.channels, size)] if isinstance(size, int) else size
    return tuple(_slice(c, x, sum(sizes[:i]), n) for i, n in enumerate(sizes))


def chunk(c: Context, x: Symbol, chunks: int, dim: int = 0) -> tuple[Symbol, ...]:
    """`Tensor.chunk` along channels."""
    return split(c, x, -(-c.draft.value_of(x).channels // chunks), dim)


def flatten(c: Context, x: Symbol, start_dim: int = 0, end_dim: int = -1) -> Symbol:
    """`Tensor.flatten` of all but the batch, or of a map's positions."""
    if isinstance(x, Symbol) and len(x.shape) == 3 and not x.last and (start_dim % 4, end_dim % 4) == (2, 3):
        return c.draft.view(x, (x.shape[0], x.shape[1] * x.shape[2]))
    if not isinstance(x, Symbol) or start_dim not in (1, -len(x.shape)) or end_dim not in (-1, len(x.shape)):
        raise Unsupported("a flattening that keeps or joins other dimensions")
    return c.draft.view(x, (math.prod(x.shape),))


def as_rows(draft: Draft, x: Any) -> Rowed | None:
    """A map with its positions flattened, [N, C, H * W], as rows; what is rows; None for anything else."""
    if isinstance(x, Rowed):
        return x
    if not isinstance(x, Symbol) or len(x.shape) != 2 or x.last or any(x.padding):
        return None
    value = draft.values[x.value]
    if x.shape != (value.channels, value.height * value.width):
        return None
    return Rowed((Symbol(x.value, value.shape),), value.channels, x.shape, across=True)


def concatenated_rows(c: Context, tensors: Any, dim: int) -> Rowed | None:
    """`torch.cat` of rows; None where not all are."""
    parts = [] if c.external else [as_rows(c.draft, tensor) for tensor in tensors]
    found = [part for part in parts if part is not None and len(part.shape) == 2]
    if not found or len(found) < len(parts):
        return None
    first = found[0]
    axis = 1 if first.across else 0
    if dim % 3 != axis + 1 or any((part.of, part.across) != (first.of, first.across) for part in found):
        raise Unsupported("a concatenation of unlike rows")
    count = sum(part.shape[axis] for part in found)
    shape = (first.of, count) if first.across else (count, first.of)
    return Rowed(tuple(map_ for part in found for map_ in part.maps), first.of, shape, first.across)


def _rows(c: Context, x: Symbol, of: int, shape: tuple[int, ...]) -> Rowed:
    """A map's channels, cut into `of` at a time, behind its positions."""
    if c.external:
        raise Unsupported("the numbers of a head's anchors behind their positions")
    value = c.draft.values[x.value]
    if value.channels % of:
        raise Unsupported(f"{value.channels} channels as rows of {of}")
    return Rowed((Symbol(x.value, value.shape),), of, shape)


def view(c: Context, x: Symbol, *shape: Any) -> Symbol | Rowed:
    """`Tensor.view`; or `Tensor.reshape`, as no view here needs a copy."""
    batch, *sizes = _listed(shape)
    if isinstance(x, Rowed) or (isinstance(x, Symbol) and x.last and len(sizes) == 2):
        rows = x if isinstance(x, Rowed) else _rows(c, x, sizes[-1], x.shape)
        count = math.prod(x.shape) // rows.of
        if batch not in (1, -1) or rows.across or sizes not in ([-1, rows.of], [count, rows.of]):
            raise Unsupported(f"a view of rows as {[batch, *sizes]}")
        return Rowed(rows.maps, rows.of, (count, rows.of))
    if not isinstance(x, Symbol) or batch not in (1, -1) or (batch, *sizes).count(-1) > 1:
        raise Unsupported(f"a view as {[batch, *sizes]}")
    known = math.prod(size for size in sizes if size != -1)
    return c.draft.view(x, tuple(math.prod(x.shape) // known if size == -1 else size for size in sizes))


def transpose(c: Context, x: Symbol, first: int, second: int) -> Symbol | Rowed:
    """`Tensor.transpose` of groups of channels, [N, groups, C / groups, H, W]."""
    order = list(range(rank(c, x)))
    order[first], order[second] = order[second], order[first]
    return permute(c, x, *order)


def permute(c: Context, x: Symbol, *order: Any) -> Symbol | Rowed:
    """`Tensor.permute` to channels last or first, of groups of channels as `transpose`, or of rows and columns."""
    wanted = _listed(order)
    if isinstance(x, Symbol) and len(x.shape) == 4 and [axis % 5 for axis in wanted] == [0, 3, 4, 1, 2]:
        anchors, of, height, width = x.shape
        value = c.draft.plain(x)
        if (anchors * of, height, width) == value.shape:
            return _rows(c, x, of, (height, width, anchors, of))
    if isinstance(x, Symbol) and len(x.shape) == 3 and c.draft.values[x.value].shape == x.shape:
        if [axis % 4 for axis in wanted] != ([0, 3, 1, 2] if x.last else [0, 2, 3, 1]):
            raise Unsupported(f"dimensions in the order {list(wanted)}")
        return replace(layers.settled(c.draft, c.name, x), last=not x.last)
    if isinstance(x, Symbol) and wanted[0] == 0 and sum(size > 1 for size in x.shape) <= 1 and len(x.shape) < 3:
        return c.draft.view(x, tuple(x.shape[axis % (1 + len(x.shape)) - 1] for axis in wanted[1:]))
    rows = None if c.external else as_rows(c.draft, x)
    if rows is not None and len(rows.shape) == 2 and [axis % 3 for axis in wanted] == [0, 2, 1]:
        return replace(rows, shape=rows.shape[::-1], across=not rows.across)
    if rank(c, x) != 5 or [axis % 5 for axis in wanted] != [0, 2, 1, 3, 4]:
        raise Unsupported(f"dimensions in the order {list(wanted)}")
    groups, size, *extent = x.shape
    if groups * size != c.draft.plain(x).channels:
        raise Unsupported("a permutation of something else than groups of channels")
    out = layers.shuffle(c.draft, c.name, x, groups)
    c.draft.views.append((x.value, out.value))
    return c.draft.view(out, (size, groups, *extent))


def shuffle(c: Context, x: Symbol, groups: int) -> Symbol:
    """`torch.nn.functional.channel_shuffle`."""
    c.draft.value_of(x)
    return layers.shuffle(c.draft, c.name, x, groups)


def expand_as(c: Context, x: Symbol, other: Any) -> Symbol | Expanded:
    """`Tensor.expand_as`."""
    c.draft.value_of(other)
    return expand(c, x, 1, *other.shape)


def expand(c: Context, x: Symbol, *shape: Any) -> Symbol | Expanded:
    """`Tensor.expand` of one element per channel."""
    value = c.draft.value_of(x)
    batch, *sizes = _listed(shape)
    wanted = tuple(own if size == -1 else size for own, size in zip(x.shape, sizes, strict=False))
    if batch not in (1, -1) or len(x.shape) != 3 or len(sizes) != 3 or wanted[0] != value.channels:
        raise Unsupported(f"an expansion to {[batch, *sizes]}")
    if wanted == x.shape:
        return x
    if (value.height, value.width) != (1, 1):
        raise Unsupported("an expansion of more than one element per channel")
    return Expanded(x, wanted)


def squeeze(c: Context, x: Symbol, *dims: Any, dim: Any = None) -> Symbol:
    """`Tensor.squeeze`."""
    axes = _listed(dims if dim is None else (dim,))
    gone = [axis % rank(c, x) for axis in axes] or [2, 3]
    if 0 in gone:
        raise Unsupported("a squeeze of the batch")
    if not axes and c.draft.value_of(x).height * c.draft.value_of(x).width > 1:
        raise Unsupported("a squeeze of a feature map")
    return c.draft.view(x, tuple(size for axis, size in enumerate(x.shape, 1) if axis not in gone or size > 1))


def unsqueeze(c: Context, x: Symbol, dim: int) -> Symbol:
    """`Tensor.unsqueeze`."""
    place = dim % (rank(c, x) + 1)
    if not place:
        raise Unsupported("another dimension before the batch")
    return c.draft.view(x, (*x.shape[: place - 1], 1, *x.shape[place - 1 :]))


def item(c: Context, x: Any, index: Any) -> Any:
    """Indexing: ranges of channels, every n-th position, the odd ones; a vector [:, :, None, None]."""
    if not isinstance(x, Symbol):
        return x[index]
    value, everything = c.draft.value_of(x), slice(None)
    index = index if isinstance(index, tuple) else (index,)
    if index == (everything, everything, None, None) and len(x.shape) == 1:
        return c.draft.view(x, (value.channels, 1, 1))
    if len(index) < 2 or index[0] != everything or not all(isinstance(i, slice) for i in index) or len(x.shape) != 3:
        raise Unsupported(f"an index {index}")
    begin, end, step = index[1].indices(value.channels)
    if step == 1 and end - begin not in (0, value.channels):
        x = _slice(c, x, begin, end - begin)
    elif step != 1 or end - begin != value.channels:
        raise Unsupported(f"an index {index}")
    stride, odd = [1, 1], []
    for axis, (part, extent) in enumerate(zip(index[2:], (value.height, value.width), strict=False)):
        first, last, step = part.indices(extent)
        if (first, last, step, extent % 2) == (1, extent, 2, 0):
            odd.append(axis)
        elif first or last != extent or step < 1:
            raise Unsupported(f"an index {index}")
        else:
            stride[axis] = step
    part_of = x.value
    if max(stride) > 1:
        x = layers.subsample(c.draft, c.name, x, (stride[0], stride[1]))
    for axis in odd:
        x = layers.odd_positions(c.draft, c.name, x, axis)
        c.draft.views.append((part_of, x.value))
    return x


def pad(c: Context, x: Symbol, pad: Any, mode: str = "constant", value: float | None = 0) -> Symbol:
    """`torch.nn.functional.pad`; zeros are left to the reader, a convolution mostly."""
    if not isinstance(x, Symbol) or len(x.shape) != 3 or x.last:
        raise Unsupported("padding of something else than a map")
    left, right, top, bottom, front, back = [*pad, 0, 0, 0, 0, 0, 0][:6]
    if front or back:
        x = _slice(c, x, -front, x.shape[0] + front + back)
    if mode != "constant" or value not in (0, None) or min(left, right, top, bottom) < 0:
        if front or back:
            raise Unsupported("padding of channels and positions")
        x = layers.settled(c.draft, c.name, x)
        return layers.pad(c.draft, c.name, x, (top, left, bottom, right), mode, value or 0)
    around = tuple(a + b for a, b in zip(x.padding, (top, left, bottom, right), strict=True))
    return Symbol(x.value, x.shape, around) if any(around) else x


def rank(_: Context, x: Any) -> int:
    """`Tensor.dim`: how many dimensions, with the batch."""
    if not isinstance(x, Symbol | Rowed):
        raise Unsupported(f"an argument that is not a feature map ({type(x).__name__})")
    return 1 + len(x.shape)


def size(_: Context, x: Symbol, dim: int | None = None) -> Any:
    """`Tensor.size`, with a batch of 1."""
    if x.last:
        raise Unsupported("the size of a map whose channels come last")
    shape = torch.Size((1, *x.shape))
    return shape if dim is None else shape[dim]


def attribute(c: Context, x: Any, name: str) -> Any:
    """`getattr` of a tensor, or of anything else."""
    if isinstance(x, Rowed) and name == "shape":
        return torch.Size((1, *x.shape))
    if isinstance(x, Symbol | Expanded | GateSymbol | Rowed):
        if isinstance(x, Symbol) and name == "shape":
            return size(c, x)
        if isinstance(x, Symbol) and name == "ndim":
            return rank(c, x)
        raise Unsupported(f"the attribute {name} of a tensor")
    return getattr(x, name)


def _listed(sizes: tuple[Any, ...]) -> Any:
    """The numbers of a call, written as view(2, 3) or as view((2, 3))."""
    return sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
