"""Put gates and masks into a traced graph, and turn the graph into a forward function."""

import itertools
import linecache
import operator
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor, fx

from convgate.gated.gate_set import GATES, PATHS, TRUNK
from convgate.gated.hooks import INSERTED
from convgate.gated.plan import FillSpec, GateSpec, PartialSpec, Plan
from convgate.gating import NO_REACH, Activations, Reach, average_pool, base_path, fill_closed
from convgate.reading.contexts import has_contexts, preserving_contexts

__all__ = ["compile_forward", "insert_gates", "mask_of"]

_serial = itertools.count()
_gone: deque[str] = deque()  # file names of functions that were collected


def insert_gates(
    graph: fx.Graph,
    plan: Plan,
    nodes: Mapping[str, fx.Node],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    training: bool,
) -> fx.Graph:
    """A copy of `graph` that also decides and applies the plan's masks.

    `nodes` maps the plan's node names to nodes of `graph`, `shapes` to their outputs' shapes. The new graph takes,
    after the images, one optional given mask per gate, and returns (what the model returned, ((mask, logits) per gate
    in the plan's order)).
    """
    copied: dict[fx.Node, fx.Node] = {}
    gated = fx.Graph()
    # Made at once, so that what takes a node's place takes it here, too, where the model returns that node.
    returned = gated.output((gated.graph_copy(graph, copied), ()))
    here = {name: copied[node] for name, node in nodes.items() if node in copied}
    gates = plan.gates
    image = next(node for node in gated.nodes if node.op == "placeholder")
    with gated.inserting_after(image):
        given: dict[str, fx.Node] = {}
        for index, gate in reversed(list(enumerate(gates))):
            given[gate.name] = gated.placeholder(f"given_{index}", default_value=None)
    masks: dict[str, fx.Node] = {}
    results: dict[str, fx.Node] = {}
    last_placeholder = given[gates[-1].name]
    partials = {partial.node: partial for partial in plan.partials}
    fills = {fill.node: fill for fill in plan.fills}
    seen: dict[str, fx.Node] = {}  # what gates' heads see
    trunk_readers = [gate for gate in gates if gate.reads == TRUNK]
    if trunk_readers:
        # First of all, from the images as they come.
        with gated.inserting_before(last_placeholder.next):
            both = gated.call_module(TRUNK, (image,))
            features, shared = (gated.call_function(operator.getitem, (both, i)) for i in range(2))
        for gate in trunk_readers:
            results[gate.name], masks[gate.name] = _decide(gated, gate, (features, given[gate.name], shared), shared)
    for name, node in list(here.items()):
        for spec in (m for site in plan.sites for m in site.masks if m.node == name and (m.training or not training)):
            node = _mask(gated, node, masks[spec.gate], next(g for g in gates if g.name == spec.gate), spec.reach)
        if name in fills:
            fill = fills[name]
            node = _fill(gated, node, masks[fill.gate], fill, seen[fill.gate])
        place = last_placeholder if node is image else node
        if name in partials:
            gate = next(g for g in gates if g.name == partials[name].gate)
            conv = here[partials[name].conv]
            results[gate.name] = _complete(gated, node, conv, partials[name], gate, given[gate.name])
        readers = {gate: gate.pooled for gate in gates if gate.reads == name and gate.pooled is not None}
        pooled = _pool(gated, node, place, set(readers.values()), shapes.get(name, ()))
        for gate, grid in readers.items():
            seen[gate.name] = feature = pooled[grid]
            arguments, after = (feature, given[gate.name]), place if feature is image else feature
            results[gate.name], masks[gate.name] = _decide(gated, gate, arguments, after)
    output, _ = returned.args[0]
    returned.args = ((output, tuple(results[g.name] for g in gates)),)
    models = {returned, *copied.values()}
    for node in gated.nodes:
        if node not in models:
            node.meta[INSERTED] = True
    gated.lint()
    return gated


def _decide(graph: fx.Graph, gate: GateSpec, arguments: tuple[fx.Node, ...], after: fx.Node) -> tuple[fx.Node, fx.Node]:
    """Insert the gate's call after a node: what it returns, and the mask in that."""
    with graph.inserting_after(after):
        result = graph.call_module(f"{GATES}.{gate.name}", arguments)
    with graph.inserting_after(result):
        return result, graph.call_function(mask_of, (result,))


def mask_of(result: tuple[Any, Any]) -> Any:
    """The mask in what a gate returned."""
    return result[0]


def _pool(
    graph: fx.Graph, node: fx.Node, place: fx.Node, grids: Iterable[tuple[int, int]], shape: tuple[int, ...]
) -> dict[tuple[int, int], fx.Node]:
    """Grid -> the node, inserted after `place`, that pools `node` (an output of that shape) to it.

    A coarse grid is pooled from a finer one where both are even, so that the feature is read once for all its gates.
    The order of the nodes is the same for every size.
    """
    pooled: dict[tuple[int, int], fx.Node] = {}
    for grid in sorted(grids, reverse=True):
        finer = [fine for fine in pooled if _divides(fine, shape[2:]) and _divides(grid, fine)]
        source = pooled[finer[-1]] if finer else node
        with graph.inserting_after(place):
            pooled[grid] = place = graph.call_function(average_pool, (source, grid))
    return pooled


def _divides(grid: tuple[int, ...], size: tuple[int, ...]) -> bool:
    return size[0] % grid[0] == 0 and size[1] % grid[1] == 0


def _mask(graph: fx.Graph, node: fx.Node, mask: fx.Node, gate: GateSpec, reach: Reach) -> fx.Node:
    assert gate.kind.masking is not None
    function, arguments = gate.kind.masking
    if reach != NO_REACH:
        arguments = (*arguments, reach)
    with graph.inserting_after(max(node, mask)):
        masked = graph.call_function(function, (node, mask, *arguments))
    masked.meta |= node.meta  # it belongs to the block that its map belongs to
    node.replace_all_uses_with(masked, delete_user_cb=lambda user: user is not masked)
    return masked


def _fill(graph: fx.Graph, node: fx.Node, mask: fx.Node, fill: FillSpec, means: fx.Node) -> fx.Node:
    """Fill the closed tiles of the masked `node` with what the path makes of the `means` over tiles."""
    with graph.inserting_after(node):
        filling = graph.call_module(f"{PATHS}.{fill.path}", (means,))
    with graph.inserting_after(filling):
        filled = graph.call_function(fill_closed, (node, mask, filling))
    filled.meta |= node.meta
    node.replace_all_uses_with(filled, delete_user_cb=lambda user: user is not filled)
    return filled


def _complete(
    graph: fx.Graph, node: fx.Node, conv: fx.Node, partial: PartialSpec, gate: GateSpec, given: fx.Node
) -> fx.Node:
    """Put the base path of `conv` and its gate beside `node`, and the combined output in its place; the gate's result.

    The base path reads the convolution itself, so its weights stay where they are.
    """
    with graph.inserting_after(node):
        layer = graph.get_attr(str(conv.target))
    with graph.inserting_after(layer):
        how = partial.parts, partial.grouped, partial.shuffled
        base = graph.call_function(base_path, (conv.all_input_nodes[0], layer, *how))
    result, mask = _decide(graph, gate, (base, given), base)
    last = mask
    if partial.norm:
        with graph.inserting_after(mask):
            last = base = graph.call_module(f"{PATHS}.{partial.base_norm}", (base,))
    assert isinstance(gate.kind, Activations)
    function, arguments = gate.kind.completing
    with graph.inserting_after(last):
        combined = graph.call_function(function, (node, base, mask, *arguments))
    combined.meta |= node.meta
    node.replace_all_uses_with(combined, delete_user_cb=lambda user: user is not combined)
    return result


def compile_forward(graph: fx.Graph, name: str) -> Callable[..., Any]:
    """A Python function (self, images, *given masks) that runs `graph` on the sub-modules of `self`."""
    code = graph.python_code("self")
    file = f"<convgate {name} {next(_serial)}>"
    # Known to linecache, so that tracebacks and debuggers show the generated lines. What belongs to functions that
    # are gone is taken out here, not when they go: the collector may run while linecache iterates over its files.
    with suppress(IndexError):
        while True:
            linecache.cache.pop(_gone.popleft(), None)
    linecache.cache[file] = (len(code.src), None, code.src.splitlines(keepends=True), file)
    scope = dict(code.globals)
    exec(compile(code.src, file, "exec"), scope)
    forward = scope["forward"]
    weakref.finalize(forward, _gone.append, file)
    if not has_contexts(graph):
        return forward

    def contained(network: Any, images: Tensor, *given: Any) -> Any:
        """Regions of the model (`torch.no_grad()`, autocast) end with this call even if it fails in one."""
        with preserving_contexts(images.device.type):
            return forward(network, images, *given)

    return contained
