"""Where maps meet: sums of residual units, dense connections, concatenations; and the maps that meet there.

Found by structure alone, as in `convgate.reading.structure`, which this complements: there a branch is everything
between fork and join, here only what is joined counts.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import fx

from convgate.reading.residual import function_of
from convgate.reading.structure import _MULTIPLY, Rejected, _common_prefix, chain_end
from convgate.reading.trace import Trace

__all__ = ["Join", "concatenations", "dense_layers", "residual_units"]

_CONCATENATE = (torch.cat, torch.concat, torch.concatenate)


@dataclass(frozen=True)
class Join:
    """Maps that are joined, as node names of the evaluation graph.

    `maps` are those that may be gated, `convs` for each of them the convolution that it is the end of, or None where it
    is something else (a pooled map in an Inception module).
    """

    name: str
    join: str
    maps: tuple[str, ...]
    convs: tuple[str | None, ...]


def residual_units(trace: Trace) -> tuple[list[Join], list[Rejected]]:
    """The units that add branches to a shortcut: each branch's end, where it is the end of a convolution.

    The shortcut is the summand with the fewest convolutions in a row since the last node that all summands come from;
    the others are branches, one or several. What mixes maps of one shape to a map of that shape (a Shake-Shake module)
    counts as a sum. Units that hold others, or whose branches are read elsewhere, are left alone.
    """
    ancestors, ends = _Ancestors(), _ends(trace)
    found: list[tuple[Join, set[fx.Node]]] = []
    rejected: list[Rejected] = []
    for join in trace.evaluation.nodes:
        if not _is_sum(trace, join) or _only_user(join, lambda user: _is_sum(trace, user)):
            continue
        summands = _leaves(join, lambda node: _is_sum(trace, node))
        common = set.intersection(*(ancestors.of(s) for s in summands))
        regions = {s: ancestors.of(s) - common for s in summands}
        depths = {s: _depth(trace, s, regions[s]) for s in summands}
        branches = [s for s in summands if depths[s] > min(depths.values())]
        inside = [n for n in trace.evaluation.nodes if any(n in regions[s] for s in branches)]
        convs = [n for n in inside if trace.convolution(n)]
        if not max(depths.values()):
            continue
        name = _common_prefix([str(n.target) for n in convs]) if convs else join.name
        reason = _obstacle(branches, regions, ends)
        if reason:
            rejected.append(Rejected(name or join.name, reason))
            continue
        unit = Join(name or join.name, join.name, _names(branches), tuple(ends[s].name for s in branches))
        found.append((unit, set(inside)))
    kept = []
    for unit, inside_unit in found:
        if any(other is not unit and trace.node(other.join) in inside_unit for other, _ in found):
            rejected.append(Rejected(unit.name, "holds other residual units"))
        else:
            kept.append(unit)
    return kept, rejected


def dense_layers(trace: Trace) -> list[Join]:
    """The layers of dense blocks but for the first of each: convolutions whose output is concatenated with their input.

    An output counts if at least two of the maps that it is concatenated with lead to it: a first layer has one, the
    block's input.
    """
    ancestors, ends = _Ancestors(), _ends(trace)
    found: dict[fx.Node, Join] = {}
    for node in trace.evaluation.nodes:
        if not _is_concatenation(trace, node):
            continue
        leaves = _leaves(node, lambda inner: _is_concatenation(trace, inner), once=False)
        for leaf in leaves:
            before = sum(other is not leaf and other in ancestors.of(leaf) for other in leaves)
            if leaf in ends and before >= 2:
                found.setdefault(leaf, Join(str(ends[leaf].target), node.name, (leaf.name,), (ends[leaf].name,)))
    return list(found.values())


def concatenations(trace: Trace) -> list[Join]:
    """The concatenations of parallel maps, not parts of larger ones; a map that is also read elsewhere is left out."""
    ends = _ends(trace)
    found = []
    for node in trace.evaluation.nodes:
        if not _is_concatenation(trace, node) or _only_user(node, lambda user: _is_concatenation(trace, user)):
            continue
        leaves = [leaf for leaf in _leaves(node, lambda n: _is_concatenation(trace, n)) if len(leaf.users) == 1]
        convs = tuple(ends[leaf].name if leaf in ends else None for leaf in leaves)
        if any(convs):
            targets = [str(trace.node(conv).target) for conv in convs if conv]
            found.append(Join(_common_prefix(targets) or node.name, node.name, _names(leaves), convs))
    return found


class _Ancestors:
    """Node -> all nodes that it depends on, itself included."""

    def __init__(self) -> None:
        self._known: dict[fx.Node, set[fx.Node]] = {}

    def of(self, node: fx.Node) -> set[fx.Node]:
        if node not in self._known:
            found: set[fx.Node] = set()
            pending = [node]
            while pending:
                here = pending.pop()
                if here not in found:
                    found.add(here)
                    pending.extend(here.all_input_nodes)
            self._known[node] = found
        return self._known[node]


def _ends(trace: Trace) -> dict[fx.Node, fx.Node]:
    """The end of conv(+norm)(+activation) -> the convolution, for convolutions that are called once."""
    convs = [node for node in trace.evaluation.nodes if trace.convolution(node)]
    targets = [node.target for node in convs]
    return {chain_end(trace, conv): conv for conv in convs if targets.count(conv.target) == 1}


def _is_sum(trace: Trace, node: fx.Node) -> bool:
    """Does `node` make of several maps one of their shape, other than by multiplying them?"""
    shape = trace.shapes.get(node.name, ())
    inputs = [trace.shapes.get(i.name, ()) for i in node.all_input_nodes if i.op != "get_attr"]
    if len(shape) != 4 or len(inputs) < 2 or any(i != shape for i in inputs):
        return False
    return function_of(node) not in (*_MULTIPLY, *_CONCATENATE)


def _is_concatenation(trace: Trace, node: fx.Node) -> bool:
    return node.target in _CONCATENATE and len(trace.shapes.get(node.name, ())) == 4


def _only_user(node: fx.Node, holds: Callable[[fx.Node], bool]) -> bool:
    return len(node.users) == 1 and holds(next(iter(node.users)))


def _leaves(join: fx.Node, is_join: Callable[[fx.Node], bool], *, once: bool = True) -> list[fx.Node]:
    """What is joined; a join among it is taken apart if only this one reads it (in any case, if not `once`)."""
    leaves: list[fx.Node] = []
    for node in join.all_input_nodes:
        if is_join(node) and (len(node.users) == 1 or not once):
            leaves.extend(_leaves(node, is_join, once=once))
        else:
            leaves.append(node)
    return list(dict.fromkeys(leaves))


def _depth(trace: Trace, last: fx.Node, region: set[fx.Node]) -> int:
    """The largest number of convolutions on a way through `region` to `last`."""
    depths: dict[fx.Node, int] = {}
    for node in trace.evaluation.nodes:
        if node in region:
            before = max((depths[i] for i in node.all_input_nodes if i in depths), default=0)
            depths[node] = before + (trace.convolution(node) is not None)
    return depths.get(last, 0)


def _obstacle(
    branches: Iterable[fx.Node], regions: dict[fx.Node, set[fx.Node]], ends: dict[fx.Node, fx.Node]
) -> str | None:
    branches = list(branches)
    # What all branches begin with (an activation before the fork's convolutions) is read by each of them.
    inside = set().union(*regions.values())
    if not branches:
        return "all summands have as many convolutions in a row; none is a shortcut"
    for branch in branches:
        if branch not in ends:
            return "a branch ends in something else than a convolution with its norm and activation"
        if len(branch.users) > 1 or any(user not in inside for n in regions[branch] - {branch} for user in n.users):
            return "a branch is also read elsewhere"
    return None


def _names(nodes: Iterable[fx.Node]) -> tuple[str, ...]:
    return tuple(node.name for node in nodes)
