"""Sums of a shortcut and a branch, in every way in which models write them."""

import operator

import torch
from torch import fx

from convgate.reading.trace import Trace

__all__ = ["Sum", "constants", "find_sum", "function_of"]

_ADD = (operator.add, operator.iadd, torch.add, operator.sub, operator.isub, torch.sub, torch.subtract)
_SCALED = (torch.addcmul, torch.lerp)
"""x + v * a * b, and x + w * (y - x)."""
_TOTAL = (torch.sum,)


class Sum:
    """A node that adds maps, and what it adds: `x + y`, `torch.lerp(x, y, w)`, `torch.stack([x, y]).sum(0)`.

    `entry` is the node that reads the maps: the sum itself, or the stack that is summed.
    """

    def __init__(self, node: fx.Node, entry: fx.Node, operands: tuple[fx.Node, fx.Node]) -> None:
        self.node, self.entry, self.operands = node, entry, operands


def constants(trace: Trace) -> set[fx.Node]:
    """The nodes that do not depend on the images: parameters, buffers and what is made of them."""
    found: set[fx.Node] = set()
    for node in trace.evaluation.nodes:
        computed = node.op in ("call_function", "call_method") and _all_in(node, found)
        if node.op == "get_attr" or computed:
            found.add(node)
    return found


def _all_in(node: fx.Node, found: set[fx.Node]) -> bool:
    return bool(node.all_input_nodes) and all(source in found for source in node.all_input_nodes)


def find_sum(trace: Trace, node: fx.Node, fixed: set[fx.Node]) -> Sum | None:
    """`node` as a sum of two maps [N, C, H, W], or None; `fixed` are the nodes that do not depend on the images."""
    if len(trace.shapes.get(node.name, ())) != 4:
        return None
    target = function_of(node)
    entry = node
    if target in _TOTAL:
        (entry,) = node.all_input_nodes
        dimension = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        if function_of(entry) is not torch.stack or dimension != 0 or entry.kwargs.get("dim", 0) != 0 or entry.args[1:]:
            return None
        if len(entry.users) > 1:
            return None
    elif target not in (*_ADD, *_SCALED):
        return None
    operands = [source for source in entry.all_input_nodes if source not in fixed]
    return Sum(node, entry, (operands[0], operands[1])) if len(operands) == 2 else None


def function_of(node: fx.Node) -> object:
    """The function that a node calls; for a tensor's method (`x.add_(y)`) torch's function of that name."""
    return getattr(torch, str(node.target).rstrip("_"), None) if node.op == "call_method" else node.target
