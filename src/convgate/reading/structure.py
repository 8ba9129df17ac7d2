"""What can be gated in a graph: residual branches and intermediate features.

Both are found by structure alone: by what is forked, convolved and joined again, never by a module's name.
"""

import operator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from convgate.reading.trace import Trace

__all__ = ["Branch", "Feature", "Rejected", "branches", "features"]

_ADD = (operator.add, operator.iadd, torch.add)
_MULTIPLY = (operator.mul, operator.imul, torch.mul)
_ACTIVATION_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus,
)  # fmt: skip
_ACTIVATION_FUNCTIONS = (
    F.relu, F.relu6, torch.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.sigmoid,
    F.tanh, torch.sigmoid, torch.tanh, F.relu_, torch.relu_, torch.sigmoid_, torch.tanh_,
)  # fmt: skip
_NEUTRAL_MODULES = (nn.Identity, nn.Dropout, nn.Dropout2d)


@dataclass(frozen=True)
class Rejected:
    """A place that looks like a site and cannot be gated: its name and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Feature:
    """An intermediate feature: the output of conv(+norm)(+activation), read by convolutions only.

    `convs` are the nodes whose output channels it is: one convolution, or several where each feeds the next through a
    depthwise convolution, so that channel c of one is channel c of all. `end` is the node whose output is the feature;
    `readers` are the convolutions that read its channels, directly or through pooling and rescaling.
    """

    name: str
    convs: tuple[str, ...]
    end: str
    readers: tuple[str, ...]
    channels: int


@dataclass(frozen=True)
class Branch:
    """A residual branch: fork -> convolutions -> last, added to a shortcut from the same fork.

    Node names of the evaluation graph; `convs` in order, `ends` the end of conv(+norm)(+activation) of each;
    `height` and `width` are the output resolution.
    """

    name: str
    fork: str
    join: str
    last: str
    convs: tuple[str, ...]
    ends: tuple[str, ...]
    height: int
    width: int


def branches(trace: Trace) -> tuple[list[Branch], list[Rejected]]:
    """All residual branches of a model, innermost where they nest, and the additions that are none."""
    dominators = _immediate_dominators(trace.evaluation)
    found: list[tuple[Branch, set[fx.Node]]] = []
    rejected: list[Rejected] = []
    for join in trace.evaluation.nodes:
        operands = [a for a in join.args if isinstance(a, fx.Node)] if _operation(join) in _ADD else []
        if len(operands) != 2 or len(trace.shapes.get(join.name, ())) != 4:
            continue
        fork = _common_dominator(operands[0], operands[1], dominators)
        regions = [_between(fork, operand) for operand in operands]
        convs = [[n for n in trace.evaluation.nodes if n in r and trace.convolution(n)] for r in regions]
        if not convs[0] and not convs[1]:
            continue
        side = 0 if len(convs[0]) > len(convs[1]) else 1
        last, region, inside = operands[side], regions[side], convs[side]
        name = _common_prefix([str(n.target) for n in inside]) or join.name
        reason = _obstacle(trace, fork, join, last, region, regions[1 - side], len(convs[0]) == len(convs[1]))
        if reason:
            rejected.append(Rejected(name, reason))
            continue
        height, width = trace.shapes[join.name][2:]
        ends = tuple(chain_end(trace, conv).name for conv in inside)
        convs_in_order = tuple(conv.name for conv in inside)
        branch = Branch(name, fork.name, join.name, last.name, convs_in_order, ends, height, width)
        found.append((branch, region))
    innermost = []
    for branch, region in found:
        nested = [b.name for b, _ in found if b is not branch and trace.node(b.join) in region]
        if nested:
            rejected.append(Rejected(branch.name, f"holds other residual branches ({', '.join(nested)})"))
        else:
            innermost.append(branch)
    return _distinctly_named(innermost), rejected


def features(trace: Trace) -> tuple[list[Feature], list[Rejected]]:
    """All intermediate features of a model whose channels can be gated, and the convolutions that make none."""
    found: dict[str, Feature] = {}
    rejected: list[Rejected] = []
    calls = [str(n.target) for n in trace.evaluation.nodes if n.op == "call_module"]
    for conv in trace.evaluation.nodes:
        layer = trace.convolution(conv)
        if layer is None:
            continue
        name = str(conv.target)
        end = chain_end(trace, conv)
        readers, obstacle = _readers(trace, end)
        source = next((f for f in found.values() if conv.name in f.readers), None)
        if _is_pooled(trace, conv):
            obstacle = "works on a map that was pooled to 1x1"
        if calls.count(name) > 1:
            obstacle = f"is called {calls.count(name)} times; its calls share weights"
        if obstacle:
            rejected.append(Rejected(name, obstacle))
            continue
        convs: tuple[str, ...] = (conv.name,)
        if source and _is_depthwise(layer) and source.readers == (conv.name,):
            del found[source.name]
            convs = (*source.convs, conv.name)
        found[name] = Feature(name, convs, end.name, tuple(r.name for r in readers), layer.out_channels)
    # A depthwise convolution computes channel c from channel c: gating its input alone would save little, and the
    # feature after it would still be needed in full.
    kept = []
    for feature in found.values():
        blocked = next((r for r in feature.readers if _is_depthwise(trace.convolution(trace.node(r)))), None)
        if blocked:
            reason = f"feeds the depthwise convolution {trace.node(blocked).target}, whose output cannot be gated"
            rejected.append(Rejected(feature.name, reason))
        else:
            kept.append(feature)
    return kept, rejected


def chain_end(trace: Trace, conv: fx.Node) -> fx.Node:
    """The last node of conv(+norm)(+activation)(+dropout) that starts at `conv`."""
    node = conv
    while len(node.users) == 1:
        user = next(iter(node.users))
        if not _is_pointwise(trace, user, node):
            break
        node = user
    return node


def describe(trace: Trace, node: fx.Node) -> str:
    """What a node does, for messages: 'MaxPool2d features.3' or 'cat'."""
    layer = trace.layer(node)
    if layer is not None:
        return f"{type(layer).__name__} {node.target}"
    return "the output" if node.op == "output" else str(getattr(node.target, "__name__", node.target))


def _operation(node: fx.Node) -> Any:
    """The function that a node calls; for a tensor's method (`x.add_(y)`) torch's function of that name."""
    return getattr(torch, str(node.target).rstrip("_"), None) if node.op == "call_method" else node.target


def _is_pointwise(trace: Trace, node: fx.Node, source: fx.Node) -> bool:
    """Does `node` map each position of `source`, channel by channel, in evaluation mode?"""
    if node.all_input_nodes != [source]:
        return False
    layer = trace.layer(node)
    if layer is None:
        return _operation(node) in (*_ACTIVATION_FUNCTIONS, F.dropout, F.dropout2d)
    if isinstance(layer, _ACTIVATION_MODULES + _NEUTRAL_MODULES + (nn.modules.batchnorm._BatchNorm,)):
        return True
    return type(layer).__name__ in ("DropPath", "StochasticDepth")


def _readers(trace: Trace, end: fx.Node) -> tuple[list[fx.Node], str | None]:
    """The convolutions that read the channels of `end`, and what stands in the way if anything else does."""
    readers: list[fx.Node] = []
    pending = list(end.users)
    seen: set[fx.Node] = set()
    while pending:
        user = pending.pop(0)
        if user in seen:
            continue
        seen.add(user)
        layer = trace.layer(user)
        if trace.convolution(user):
            readers.append(user)
        elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d | nn.Dropout) or _rescales(trace, user):
            pending.extend(user.users)
        elif not _squeezes(trace, user, end):
            return [], f"is read by {describe(trace, user)}, not by convolutions only"
    if not readers:
        return [], "is read by no convolution"
    return readers, None


def _rescales(trace: Trace, node: fx.Node) -> bool:
    """Is `node` a product with one factor per channel, as at the end of squeeze-and-excitation?"""
    if _operation(node) not in _MULTIPLY:
        return False
    shapes = [trace.shapes.get(a.name, ()) for a in node.all_input_nodes]
    return len(shapes) == 2 and any(len(s) == 4 and s[2:] == (1, 1) for s in shapes)


def _squeezes(trace: Trace, node: fx.Node, feature: fx.Node) -> bool:
    """Does `node` pool `feature` to one value per channel that only ever rescales `feature` itself?"""
    if trace.shapes.get(node.name, ())[2:] not in ((1, 1), ()):
        return False
    while len(node.users) == 1:
        node = next(iter(node.users))
        if _rescales(trace, node):
            return feature in node.all_input_nodes
        if trace.shapes.get(node.name, ())[2:] not in ((1, 1), ()):
            return False
    return False


def _is_pooled(trace: Trace, conv: fx.Node) -> bool:
    """Was the map that `conv` reads pooled to 1x1, as in squeeze-and-excitation (rather than strided down to it)?"""
    node = conv
    while node.all_input_nodes and trace.shapes.get(node.name, ())[2:] == (1, 1):
        source = node.all_input_nodes[0]
        if trace.shapes.get(source.name, ())[2:] not in ((1, 1), ()):
            return trace.convolution(node) is None
        node = source
    return False


def _is_depthwise(layer: nn.Conv2d | None) -> bool:
    return layer is not None and layer.groups == layer.in_channels == layer.out_channels > 1


def _obstacle(
    trace: Trace,
    fork: fx.Node,
    join: fx.Node,
    last: fx.Node,
    region: set[fx.Node],
    other: set[fx.Node],
    ambiguous: bool,
) -> str | None:
    if ambiguous:
        return "both operands of the addition have as many convolutions; neither is a shortcut"
    if region & other:
        return "branch and shortcut share layers"
    if len(trace.shapes.get(fork.name, ())) != 4:
        return f"branch and shortcut come from {describe(trace, fork)}, which is no feature map"
    if trace.shapes.get(last.name) != trace.shapes[join.name]:
        return "the addition broadcasts the branch"
    for node in region:
        for user in node.users:
            if user not in region and not (node is last and user is join):
                return f"{describe(trace, node)} is also read outside the branch, by {describe(trace, user)}"
    return None


def _immediate_dominators(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Node -> the last node that every path from the images to it passes; fx keeps nodes in topological order."""
    root = next(iter(graph.nodes))
    immediate = {root: root}
    for node in graph.nodes:
        inputs = [i for i in node.all_input_nodes if i.op != "get_attr"]
        if node is root or not inputs:
            immediate.setdefault(node, root)
            continue
        common = inputs[0]
        for other in inputs[1:]:
            common = _common_dominator(common, other, immediate)
        immediate[node] = common
    return immediate


def _common_dominator(a: fx.Node, b: fx.Node, immediate: dict[fx.Node, fx.Node]) -> fx.Node:
    while a is not b:
        if a > b:
            a = immediate[a]
        else:
            b = immediate[b]
    return a


def _between(fork: fx.Node, last: fx.Node) -> set[fx.Node]:
    """The nodes on the way from `fork` (left out) to `last` (included)."""
    region: set[fx.Node] = set()
    pending = [last]
    while pending:
        node = pending.pop()
        if node is not fork and node not in region:
            region.add(node)
            pending.extend(node.all_input_nodes)
    return region


def _common_prefix(targets: list[str]) -> str:
    parts = [t.split(".") for t in targets]
    if len(parts) == 1:
        return targets[0]
    shared = takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False))
    return ".".join(column[0] for column in shared)


def _distinctly_named(found: list[Branch]) -> list[Branch]:
    names = [b.name for b in found]
    if len(set(names)) == len(names):
        return found
    return [replace(b, name=f"{b.name}.{b.join}" if names.count(b.name) > 1 else b.name) for b in found]
