"""Read a CNN: its `torch.fx` graphs, and for each node the output shape.

A symbolic trace freezes Python control flow, `self.training` included (auxiliary heads, functional dropout). The model
is therefore traced in both modes; where the two graphs agree they are still kept apart, because gating edits them
differently.
"""

import copy
import hashlib
import inspect
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from convgate.errors import InputError, TraceError
from convgate.reading.modes import get_modes, set_modes

__all__ = ["Trace", "trace"]

COUNTED_MODULES = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase)


class _Tracer(fx.Tracer):
    """Leaves: what torch.nn defines, every convolution or linear layer, and modules with neither inside.

    The last rule keeps norm-activation layers, drop path and the like whole, so that what they do with
    `self.training` is decided when they run, not when they are traced.
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, COUNTED_MODULES) or super().is_leaf_module(m, module_qualified_name):
            return True
        if isinstance(m, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            return False
        own_parameters = any(True for _ in m.parameters(recurse=False))
        matrix_inside = any(isinstance(child, COUNTED_MODULES) for child in m.modules())
        holds_matrix = own_parameters and any(p.dim() > 1 for p in m.parameters(recurse=False))
        return not matrix_inside and not holds_matrix


@dataclass(frozen=True, eq=False)
class Trace:
    """A model read as a graph.

    `module` is a copy of the model; `evaluation` and `training` are its graphs in the two modes; `example` is the
    example's shape [N, C, H, W]. `shapes` holds, by node names of `evaluation`, the output's shape with the batch first
    (absent where the output is not a tensor).
    """

    module: nn.Module
    evaluation: fx.Graph
    training: fx.Graph
    example: tuple[int, ...]
    shapes: Mapping[str, tuple[int, ...]]

    def layer(self, node: fx.Node) -> nn.Module | None:
        """The module that a `call_module` node calls, else None."""
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def convolution(self, node: fx.Node) -> nn.Conv2d | None:
        """The 2-d convolution that a node calls, else None."""
        layer = self.layer(node)
        return layer if isinstance(layer, nn.Conv2d) else None

    def node(self, name: str) -> fx.Node:
        """The evaluation graph's node of that name."""
        for node in self.evaluation.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def fingerprint(self) -> str:
        """A digest of both graphs: equal for models that compute alike, whatever their weights."""
        lines = [_line(node) for graph in (self.evaluation, self.training) for node in graph.nodes]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def counterparts(self) -> dict[str, fx.Node]:
        """Evaluation-mode node name -> the node that does the same in the training graph.

        Nodes correspond when they are the only call of one module, or else do the same (operation, target, constants
        but for flags) to corresponding inputs. What only one mode computes has no counterpart.
        """
        found: dict[str, fx.Node] = {}

        def counterpart(node: fx.Node) -> fx.Node | None:
            return found.get(node.name)

        only_calls = _only_calls(self.training)
        called_once = only_calls.keys() & _only_calls(self.evaluation).keys()
        candidates: dict[tuple, list[fx.Node]] = {}
        for node in self.training.nodes:
            candidates.setdefault(self._signature(node, lambda n: n), []).append(node)
        for node in self.evaluation.nodes:
            if node.op == "call_module" and str(node.target) in called_once:
                found[node.name] = only_calls[str(node.target)]
            elif same := candidates.get(self._signature(node, counterpart)):
                found[node.name] = same.pop(0)
        return found

    def _signature(self, node: fx.Node, lookup: Callable[[fx.Node], fx.Node | None]) -> tuple:
        # Flags (dropout's `training`) are what the two modes differ in, so they do not count.
        values = fx.node.map_aggregate((node.args, node.kwargs), lambda v: None if isinstance(v, bool) else v)
        target = str(node.target)
        if node.op == "get_attr" and target.startswith("_tensor_constant"):
            # A tensor made in forward is another attribute in each trace.
            constant = getattr(self.module, target)
            target = f"constant {constant.dtype} {constant.tolist()}"
        return node.op, target, repr(fx.map_arg(values, lookup))


def _only_calls(graph: fx.Graph) -> dict[str, fx.Node]:
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    return {target: nodes[0] for target, nodes in calls.items() if len(nodes) == 1}


def _line(node: fx.Node) -> str:
    # Functions by name: their repr holds an address.
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__qualname__", repr(node.target))
    return f"{node.name} {node.op} {target} {node.args} {dict(node.kwargs)}"


def trace(model: nn.Module, example: Tensor) -> Trace:
    """Trace `model` and run it once on `example` (float [N, C, H, W], evaluation mode, no gradient).

    The model itself is copied and stays as it was. Raises `InputError` for a bad example and `TraceError`, naming the
    node or the place in the model's code, when the model cannot be traced or run.
    """
    check_images(example, "example")
    module = copy.deepcopy(model)
    graphs = {}
    for training in (False, True):
        module.train(training)
        graphs[training] = _symbolic_trace(module)
    module.eval()
    recorder = _Recorder(module, graphs[False])
    recorder.record(example)
    set_modes(module, get_modes(model))
    return Trace(
        module=module,
        evaluation=graphs[False],
        training=graphs[True],
        example=tuple(example.shape),
        shapes=recorder.shapes,
    )


def check_images(images: Any, what: str) -> None:
    """Raise `InputError` unless `images` is a non-empty floating-point tensor [N, C, H, W]."""
    if not isinstance(images, Tensor):
        raise InputError(f"{what} is a {type(images).__name__}; give a float tensor of shape [N, C, H, W]")
    if images.dim() != 4 or 0 in images.shape:
        raise InputError(f"{what} has shape {list(images.shape)}; give a non-empty tensor of shape [N, C, H, W]")
    if not images.is_floating_point():
        raise InputError(f"{what} has dtype {images.dtype}; scale the images and give them as floats")


def _symbolic_trace(module: nn.Module) -> fx.Graph:
    tracer = _Tracer()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Was not able to add assertion")
            graph = tracer.trace(module, concrete_args=_defaults(module))
    except Exception as error:
        nodes: list[fx.Node] = list(tracer.graph.nodes) if hasattr(tracer, "graph") else []
        place = f"after node '{nodes[-1].name}' ({nodes[-1].op} {nodes[-1].target})" if nodes else "at all"
        raise TraceError(
            f"{type(module).__name__} cannot be traced {place}: {type(error).__name__}: {_first_line(error)}. Control "
            "flow that "
            "depends on tensor values cannot be read by torch.fx; move it into a sub-module without convolutions, or "
            "gate the part of the model that can be traced"
        ) from error
    graph.eliminate_dead_code(is_impure_node=lambda node: _has_effects(module, node))
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    for extra in inputs[1:]:
        if extra.users:
            raise TraceError(
                f"{type(module).__name__}.forward takes {len(inputs)} inputs, '{extra.target}' among them; "
                "wrap it in a module whose forward takes the images alone"
            )
        graph.erase_node(extra)
    graph.lint()
    return graph


def _has_effects(module: nn.Module, node: fx.Node) -> bool:
    """Does more than its result come of this node? Of calls that write in place it does, though nobody reads it."""
    if node.op in ("placeholder", "output"):
        return True
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or node.target in _AUGMENTED or bool(node.kwargs.get("inplace", False))


_AUGMENTED = {getattr(operator, name) for name in dir(operator) if name.startswith("__i") and name.endswith("__")} - {
    operator.__index__,
    operator.__inv__,
    operator.__invert__,
}
"""x += y and the like."""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _defaults(module: nn.Module) -> dict[str, Any]:
    """The optional arguments of the model's forward, which are left at their defaults."""
    _images, *others = inspect.signature(module.forward).parameters.values()
    return {p.name: p.default for p in others if p.default is not p.empty}


class _Recorder(fx.Interpreter):
    """Runs a graph, noting each node's output shape."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def record(self, example: Tensor) -> None:
        parameter = next(self.module.parameters(), None)
        example = example.detach()
        if parameter is not None:
            example = example.to(parameter.device, parameter.dtype)
        with torch.no_grad():
            self.run(example)

    def run_node(self, n: fx.Node) -> Any:
        try:
            output = super().run_node(n)
        except TraceError:
            raise
        except Exception as error:
            shapes = ", ".join(str(list(self.shapes[i.name])) for i in n.all_input_nodes if i.name in self.shapes)
            raise TraceError(
                f"node '{n.name}' ({n.op} {n.target}) fails on the example (its inputs: {shapes or 'none'}): "
                f"{type(error).__name__}: {_first_line(error)}. Give an example of the shape that the model expects"
            ) from error
        if isinstance(output, Tensor):
            self.shapes[n.name] = tuple(output.shape)
        return output
