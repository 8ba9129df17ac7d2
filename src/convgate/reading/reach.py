"""How far the output of a residual branch reads inside of the branch, position by position.

A tile of the output that is computed reads more than the same tile of the maps before it: a 3x3 convolution one row and
one column around it. Where a mask inside of the branch is dilated by that much, an open tile is computed from what the
whole branch computes; where it is not, from zeros at the tile's rim.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from convgate.gating import NO_REACH, Reach
from convgate.reading.residual import function_of
from convgate.reading.structure import Branch, is_pointwise
from convgate.reading.trace import Trace

__all__ = ["reaches"]

_ELEMENTWISE = (
    operator.add, operator.iadd, torch.add, operator.sub, operator.isub, torch.sub, operator.mul, operator.imul,
    torch.mul, operator.truediv, operator.itruediv, torch.div,
)  # fmt: skip
_PADDINGS = ("zeros", "reflect", "replicate")
# What they put around a map lies no further inside than the padding is wide; what "circular" puts there does.


def reaches(trace: Trace, branch: Branch) -> Mapping[str, Reach]:
    """Node in the branch -> by how many rows and columns a mask of tiles on its output is to be dilated.

    With masks that are dilated so (or by more), the open tiles of the branch's output are what the whole branch
    computes there, whatever the size of the image: a convolution that strides over a map that its stride does not
    divide reads up to stride - 1 positions past the same tile. Squeeze-and-excitation, which reads masked maps as a
    whole, is not taken into account. Nodes are left out whose output something reads in a way that is not known here.

    >>> from convgate.models import create
    >>> from convgate.reading import branches, trace
    >>> read = trace(create("cifar_resnet8"), torch.zeros(1, 3, 16, 16))
    >>> branch = branches(read)[0][0]
    >>> [reaches(read, branch)[end] for end in branch.ends]  # of two 3x3 convolutions
    [(1, 1), (0, 0)]
    """
    fork = trace.node(branch.fork)
    known: dict[fx.Node, Reach | None] = {trace.node(branch.last): NO_REACH}
    for node in reversed(trace.evaluation.nodes):
        users = [user for user in node.users if user in known]
        if node is fork or node in known or not users:
            continue
        found = [_before(trace, user, node, known[user]) for user in users if not _squeezes(trace, user, node)]
        known[node] = None if None in found else _widest([reach for reach in found if reach is not None])
    return {node.name: reach for node, reach in known.items() if reach is not None}


def _widest(of: list[Reach]) -> Reach:
    return max((rows for rows, _ in of), default=0), max((columns for _, columns in of), default=0)


def _before(trace: Trace, node: fx.Node, source: fx.Node, reach: Reach | None) -> Reach | None:
    """How far `node`, of which `reach` around open tiles is needed, reads `source`; None if that is not known."""
    if reach is None:
        return None
    layer = trace.layer(node)
    if isinstance(layer, nn.Conv2d):
        if layer.padding_mode not in _PADDINGS or type(layer).forward is not nn.Conv2d.forward:
            return None
        sides = layer._reversed_padding_repeated_twice  # left, right, top, bottom; also for padding="same"
        return _windows(reach, layer.kernel_size, layer.stride, layer.dilation, (sides[2:4], sides[0:2]))
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        if layer.ceil_mode:
            return None
        around = [(by, by) for by in _pair(layer.padding)]
        dilation = _pair(getattr(layer, "dilation", 1))
        return _windows(reach, _pair(layer.kernel_size), _pair(layer.stride), dilation, around)
    joined = function_of(node) is torch.cat and (node.args[1:] == (1,) or node.kwargs.get("dim") == 1)
    by_position = is_pointwise(trace, node, source) or function_of(node) in _ELEMENTWISE or joined
    return reach if by_position and _size(trace, node) == _size(trace, source) else None


def _windows(
    reach: Reach,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[Sequence[int]],
) -> Reach:
    """How far windows read, of which those around an open tile are needed; `padding` is (before, after) by axis.

    The window of output position y begins at stride * y - before. A tile's positions there and here are those of
    nearest neighbours over maps of both sizes: stride * y lies at most `excess` positions before the tile here, or
    stride - 1 - excess behind it, where these are positive.
    """
    rows, columns = (_window(reach[i], dilation[i] * (kernel[i] - 1), stride[i], *padding[i]) for i in range(2))
    return rows, columns


def _window(reach: int, length: int, stride: int, before: int, after: int) -> int:
    excess = length - before - after
    above, below = before + max(excess, 0), length - before + max(stride - 1 - excess, 0)
    return stride * reach + max(above, below)


def _squeezes(trace: Trace, node: fx.Node, source: fx.Node) -> bool:
    """Whether a node that is no convolution makes one position of a map."""
    single = ((1, 1), ())
    return trace.convolution(node) is None and _size(trace, node) in single and _size(trace, source) not in single


def _size(trace: Trace, node: fx.Node) -> tuple[int, ...]:
    return tuple(trace.shapes.get(node.name, ())[2:])


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
