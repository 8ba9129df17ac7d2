"""Remove what nobody reads from a captured graph, but for what has effects: writing in place, and regions."""

import operator

from torch import fx, nn

from convgate.reading.contexts import CONTEXTS, leave_autocast, set_grad

__all__ = ["eliminate_dead_code"]

_AUGMENTED = {getattr(operator, name) for name in dir(operator) if name.startswith("__i") and name.endswith("__")} - {
    operator.__index__,
    operator.__inv__,
    operator.__invert__,
}
"""x += y and the like."""


def eliminate_dead_code(module: nn.Module, graph: fx.Graph) -> None:
    """Remove nodes whose result is not used, in place; `module` holds the layers that they call."""
    graph.eliminate_dead_code(is_impure_node=lambda node: has_effects(module, node))
    for node in reversed(graph.nodes):
        # A region in which nothing is left, e.g. one that made a constant.
        if node.target in (set_grad, leave_autocast) and node.args[-1] is node.prev:
            begun = node.prev
            graph.erase_node(node)
            graph.erase_node(begun)
    graph.lint()


def has_effects(module: nn.Module, node: fx.Node) -> bool:
    """Whether a node must be kept even if its result is unused, e.g. because it writes in place."""
    if node.op in ("placeholder", "output") or node.target in CONTEXTS:
        return True
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or node.target in _AUGMENTED or bool(node.kwargs.get("inplace", False))
