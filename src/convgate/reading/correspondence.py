"""Which nodes of two graphs of one model do the same: of its two modes, or of two sizes of its images."""

from collections.abc import Callable
from typing import Any

from torch import fx, nn

__all__ = ["correspond"]


_SCALES = ("mul", "imul", "div", "truediv", "itruediv", "multiply", "divide")


def correspond(module: nn.Module, a: fx.Graph, b: fx.Graph, *, sizes_differ: bool = False) -> dict[str, fx.Node]:
    """Name of a node of `a` -> the node of `b` that does the same.

    Nodes correspond when they are the only call of one module, or else do the same (operation, target, constants but
    for flags) to corresponding inputs, in the order of the graphs. Numbers among the constants count unless
    `sizes_differ`. What only one graph computes has no counterpart; where it only scales an input by factors of its own
    (stochastic depth, written out), what reads it corresponds all the same.
    """
    ignored: tuple[type, ...] = (bool, int, float) if sizes_differ else (bool,)
    found: dict[str, fx.Node] = {}

    def signature(node: fx.Node, lookup: Callable[[fx.Node], fx.Node | None]) -> tuple[Any, ...]:
        values = fx.node.map_aggregate((node.args, node.kwargs), lambda v: None if isinstance(v, ignored) else v)
        target = str(node.target)
        if node.op == "get_attr" and target.startswith("_tensor_constant"):
            # A tensor made in forward is another attribute in each graph.
            constant = getattr(module, target)
            target = f"constant {constant.dtype} {constant.dim() if sizes_differ else constant.tolist()}"
        return node.op, target, repr(fx.map_arg(values, lookup))

    only_calls = _only_calls(b)
    called_once = only_calls.keys() & _only_calls(a).keys()
    candidates: dict[tuple[Any, ...], list[fx.Node]] = {}
    for node in reversed(b.nodes):
        candidates.setdefault(signature(node, lambda n: n), []).append(node)
    scaled = _Scaled()
    for node in a.nodes:
        own = signature(node, lambda n: found.get(n.name))
        if node.op == "call_module" and str(node.target) in called_once:
            found[node.name] = only_calls[str(node.target)]
        elif same := candidates.get(own):
            found[node.name] = same.pop()
        else:
            alike = (n for n in b.nodes if n.target == node.target and n not in scaled.known)
            match = next((n for n in alike if signature(n, scaled.source) == own), None)
            if match is None:
                continue
            found[node.name] = match
        scaled.known.add(found[node.name])
    return found


class _Scaled:
    """Looks through what only one graph does to a map on its way: scaling it, as stochastic depth does in training."""

    def __init__(self) -> None:
        self.known: set[fx.Node] = set()

    def source(self, node: fx.Node) -> fx.Node | None:
        """The node with a counterpart of which `node` is a multiple; itself if it has one, None if there is none."""
        if node in self.known:
            return node
        if str(getattr(node.target, "__name__", node.target)).strip("_") not in _SCALES:
            return None
        sources = [source for source in map(self.source, node.all_input_nodes) if source is not None]
        return sources[0] if len(sources) == 1 else None


def _only_calls(graph: fx.Graph) -> dict[str, fx.Node]:
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    return {target: nodes[0] for target, nodes in calls.items() if len(nodes) == 1}
