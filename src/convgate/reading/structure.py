"""What can be gated in a graph: residual branches and intermediate features.

Both are found by structure alone: by what is forked, convolved and joined again, never by a module's name.
"""

import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile

import torch
import torch.nn.functional as F
from torch import fx, nn

from convgate.reading.norms import is_fixed_norm, pools_positions, returns_its_input
from convgate.reading.residual import Sum, constants, find_sum, function_of
from convgate.reading.trace import Trace

__all__ = ["Branch", "Feature", "Rejected", "branches", "features", "is_activated", "is_pointwise"]

_MULTIPLY = (operator.mul, operator.imul, torch.mul)
_ACTIVATION_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus,
)  # fmt: skip
_ACTIVATION_FUNCTIONS = (
    F.relu, F.relu6, torch.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.sigmoid,
    F.tanh, torch.sigmoid, torch.tanh, F.relu_, torch.relu_, torch.sigmoid_, torch.tanh_,
)  # fmt: skip


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
    `height` and `width` are the output resolution. `pooled` maps an end to the norm behind it, within the branch, whose
    statistics are taken over positions: what that norm reads must be computed at every position.
    """

    name: str
    fork: str
    join: str
    last: str
    convs: tuple[str, ...]
    ends: tuple[str, ...]
    height: int
    width: int
    pooled: Mapping[str, str] = field(default_factory=dict)


def branches(trace: Trace) -> tuple[list[Branch], list[Rejected]]:
    """All residual branches of a model, innermost where they nest, and the additions that do not end one."""
    fixed = constants(trace)
    dominators = _immediate_dominators(trace.evaluation, fixed)
    order = {node: index for index, node in enumerate(trace.evaluation.nodes)}
    found: list[tuple[Branch, set[fx.Node]]] = []
    rejected: list[Rejected] = []
    for join in trace.evaluation.nodes:
        added = find_sum(trace, join, fixed)
        if added is None:
            continue
        fork = _common_dominator(added.operands[0], added.operands[1], dominators)
        regions = [_between(fork, operand, fixed) for operand in added.operands]
        convs = [sorted((n for n in r if trace.convolution(n)), key=order.__getitem__) for r in regions]
        if not convs[0] and not convs[1]:
            continue
        side = 0 if len(convs[0]) > len(convs[1]) else 1
        last, region, inside = added.operands[side], regions[side], convs[side]
        name = _common_prefix([str(n.target) for n in inside]) or join.name
        reason = _obstacle(trace, fork, added, last, region, regions[1 - side], len(convs[0]) == len(convs[1]))
        if reason:
            rejected.append(Rejected(name, reason))
            continue
        height, width = trace.shapes[join.name][2:]
        ends = tuple(chain_end(trace, conv) for conv in inside)
        branch = Branch(
            name=name,
            fork=fork.name,
            join=join.name,
            last=last.name,
            convs=tuple(conv.name for conv in inside),
            ends=tuple(end.name for end in ends),
            height=height,
            width=width,
            pooled=_pooled(trace, region, ends, order),
        )
        found.append((branch, region))
    joins = {trace.node(branch.join): branch.name for branch, _ in found}
    innermost = []
    for branch, region in found:
        nested = [joins[node] for node in sorted(region & joins.keys(), key=order.__getitem__)]
        if nested:
            rejected.append(Rejected(branch.name, f"holds other residual branches ({', '.join(nested)})"))
        else:
            innermost.append(branch)
    return _distinctly_named(innermost), rejected


def _pooled(trace: Trace, region: set[fx.Node], ends: tuple[fx.Node, ...], order: dict[fx.Node, int]) -> dict[str, str]:
    """End of a convolution -> the norm behind it in the branch that pools positions, where there is one."""
    behind: dict[fx.Node, str] = {}
    for node in sorted(region, key=order.__getitem__, reverse=True):
        norms = [behind[user] for user in node.users if user in behind]
        if pools_positions(trace, node):
            norms = [describe(trace, node)]
        if norms:
            behind[node] = norms[0]
    found = {}
    for end in ends:
        norms = [behind[user] for user in end.users if user in behind and user in region]
        if norms:
            found[end.name] = norms[0]
    return found


def features(trace: Trace) -> tuple[list[Feature], list[Rejected]]:
    """All intermediate features of a model whose channels can be gated, and the convolutions that make none."""
    found: dict[str, Feature] = {}
    rejected: list[Rejected] = []
    calls = Counter(str(n.target) for n in trace.evaluation.nodes if n.op == "call_module")
    read_by: dict[str, Feature] = {}
    for conv in trace.evaluation.nodes:
        layer = trace.convolution(conv)
        if layer is None:
            continue
        name = str(conv.target)
        end = chain_end(trace, conv)
        readers, obstacle = _readers(trace, end)
        source = read_by.get(conv.name)
        if _is_pooled(trace, conv):
            obstacle = "works on a map that was pooled to 1x1"
        if calls[name] > 1:
            obstacle = f"is called {calls[name]} times; its calls share weights"
        if obstacle:
            rejected.append(Rejected(name, obstacle))
            continue
        convs: tuple[str, ...] = (conv.name,)
        if source and _is_depthwise(layer) and source.readers == (conv.name,):
            del found[source.name]
            convs = (*source.convs, conv.name)
        found[name] = Feature(name, convs, end.name, tuple(r.name for r in readers), layer.out_channels)
        for reader in readers:
            read_by.setdefault(reader.name, found[name])
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
        if not is_pointwise(trace, user, node):
            break
        node = user
    return node


def is_activated(trace: Trace, conv: fx.Node) -> bool:
    """Whether all that reads a convolution is an activation, at once or behind a norm."""
    node = conv
    while len(node.users) == 1:
        user = next(iter(node.users))
        if not is_pointwise(trace, user, node):
            return False
        if isinstance(trace.layer(user), _ACTIVATION_MODULES) or function_of(user) in _ACTIVATION_FUNCTIONS:
            return True
        node = user
    return False


def describe(trace: Trace, node: fx.Node) -> str:
    """What a node does, for messages: 'MaxPool2d features.3' or 'cat'."""
    layer = trace.layer(node)
    if layer is not None:
        return f"{type(layer).__name__} {node.target}"
    return "the output" if node.op == "output" else str(getattr(node.target, "__name__", node.target))


def is_pointwise(trace: Trace, node: fx.Node, source: fx.Node) -> bool:
    """Does `node` map each position of `source`, channel by channel, in evaluation mode?"""
    if node.all_input_nodes != [source]:
        return False
    layer = trace.layer(node)
    if layer is None:
        return function_of(node) in (*_ACTIVATION_FUNCTIONS, F.dropout, F.dropout2d)
    return isinstance(layer, _ACTIVATION_MODULES) or is_fixed_norm(layer) or returns_its_input(trace, node)


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
    if function_of(node) not in _MULTIPLY:
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
    join: Sum,
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
        return f"branch and shortcut come from {describe(trace, fork)}, which is not a feature map"
    if trace.shapes.get(last.name) != trace.shapes[join.node.name]:
        return "the addition broadcasts the branch"
    for node in region:
        for user in node.users:
            if user not in region and not (node is last and user is join.entry):
                return f"{describe(trace, node)} is also read outside the branch, by {describe(trace, user)}"
    return None


def _immediate_dominators(graph: fx.Graph, fixed: set[fx.Node]) -> dict[fx.Node, fx.Node]:
    """Node -> the last node that every path from the images to it passes; fx keeps nodes in topological order."""
    root = next(iter(graph.nodes))
    immediate = {root: root}
    for node in graph.nodes:
        inputs = [i for i in node.all_input_nodes if i not in fixed]
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


def _between(fork: fx.Node, last: fx.Node, fixed: set[fx.Node]) -> set[fx.Node]:
    """The nodes on the way from `fork` (left out) to `last` (included); constants belong to no way."""
    region: set[fx.Node] = set()
    pending = [last]
    while pending:
        node = pending.pop()
        if node is not fork and node not in region and node not in fixed:
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
