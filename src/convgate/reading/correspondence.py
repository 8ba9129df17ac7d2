"""Which nodes of two graphs of one model do the same: of its two modes, or of two sizes of its images."""

from collections.abc import Callable
from typing import Any

from torch import fx, nn

__all__ = ["correspond"]


def correspond(module: nn.Module, a: fx.Graph, b: fx.Graph, *, sizes_differ: bool = False) -> dict[str, fx.Node]:
    """Name of a node of `a` -> the node of `b` that does the same.

    Nodes correspond when they are the only call of one module, or else do the same (operation, target, constants but
    for flags) to corresponding inputs, in the order of the graphs. Numbers among the constants count unless
    `sizes_differ`. What only one graph computes has no counterpart.
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
    for node in a.nodes:
        if node.op == "call_module" and str(node.target) in called_once:
            found[node.name] = only_calls[str(node.target)]
        elif same := candidates.get(signature(node, lambda n: found.get(n.name))):
            found[node.name] = same.pop()
    return found


def _only_calls(graph: fx.Graph) -> dict[str, fx.Node]:
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    return {target: nodes[0] for target, nodes in calls.items() if len(nodes) == 1}
