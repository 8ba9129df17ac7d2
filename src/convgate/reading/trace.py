"""Read a CNN: its graphs in evaluation and in training, and what each node returns.

Capturing freezes Python control flow, `self.training` included (auxiliary heads, functional dropout). The model is
therefore captured in both modes; where the two graphs agree they are still kept apart, because gating edits them
differently.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from convgate.errors import InputError
from convgate.reading.alone import READING
from convgate.reading.capture import capture
from convgate.reading.copying import sharing_tensors
from convgate.reading.correspondence import correspond
from convgate.reading.prepare import check_images, prepare
from convgate.reading.values import FakeModule

__all__ = ["Trace", "check_images", "read_again", "switch", "trace"]


@dataclass(frozen=True, eq=False)
class Trace:
    """A model read as a graph, for one size of its images.

    Attributes:
        module: a copy of the model, whose layers the graphs call.
        evaluation, training: its graphs in the two modes. Height and width of the images are part of them, their number
            is not.
        example: the example's shape [N, C, H, W].
        values: node name of `evaluation` -> what the node returns, with fake tensors (shape, dtype and device, no data)
            for tensors. Their first dimension is the number of images, N or 2 if N is 1.
        shapes: node name of `evaluation` -> the shape of that (absent where it is not a tensor).
        example_like: an empty tensor of the images' dtype, on their device.

    """

    module: nn.Module
    evaluation: fx.Graph
    training: fx.Graph
    example: tuple[int, ...]
    values: Mapping[str, Any] = field(repr=False)
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    _fakes: FakeModule = field(repr=False)
    example_like: Tensor = field(repr=False)

    @cached_property
    def nodes(self) -> Mapping[str, fx.Node]:
        """The evaluation graph's nodes by name."""
        return {node.name: node for node in self.evaluation.nodes}

    def layer(self, node: fx.Node) -> nn.Module | None:
        """The module that a `call_module` node calls, else None."""
        return self._layers.get(str(node.target)) if node.op == "call_module" else None

    @cached_property
    def _layers(self) -> Mapping[str, nn.Module]:
        return dict(self.module.named_modules(remove_duplicate=False))

    def convolution(self, node: fx.Node) -> nn.Conv2d | None:
        """The 2-d convolution that a node calls, else None."""
        layer = self.layer(node)
        return layer if isinstance(layer, nn.Conv2d) else None

    def node(self, name: str) -> fx.Node:
        """The evaluation graph's node of that name."""
        return self.nodes[name]

    def at(self, height: int, width: int) -> "Trace":
        """The same model, read for images of another size; its layers are shared with this trace.

        Nodes of the new trace have the names of the nodes of this one that do the same; names of nodes that do
        something that this trace does not are new. Raises `TraceError` if the model does not take the size.

        >>> small = trace(model, torch.zeros(1, 3, 32, 32))     # doctest: +SKIP
        >>> small.at(48, 64).shapes["layer1_0_conv1"]           # doctest: +SKIP
        (2, 16, 48, 64)
        """
        if height < 1 or width < 1:
            raise InputError(f"images of {height} x {width} pixels; give a height and a width of at least 1")
        other = _read(self.module, self._fakes, (*self.example[:2], height, width), self.example_like)
        pairs = correspond(self.module, self.evaluation, other.evaluation, sizes_differ=True)
        renamed = _rename(other.evaluation, {node: name for name, node in pairs.items()})
        for graph, own in ((other.training, self.training),):
            pairs = correspond(self.module, own, graph, sizes_differ=True)
            _rename(graph, {node: name for name, node in pairs.items()})
        return Trace(
            module=other.module,
            evaluation=other.evaluation,
            training=other.training,
            example=other.example,
            values={renamed.get(name, name): value for name, value in other.values.items()},
            shapes={renamed.get(name, name): shape for name, shape in other.shapes.items()},
            _fakes=other._fakes,
            example_like=other.example_like,
        )

    def fingerprint(self) -> str:
        """A digest of both graphs: equal for models that compute the same but for their weights."""
        lines = [_line(node) for graph in (self.evaluation, self.training) for node in graph.nodes]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def counterparts(self) -> dict[str, fx.Node]:
        """Evaluation-mode node name -> the node that does the same in the training graph.

        See `convgate.reading.correspondence`. What only one mode computes has no counterpart.
        """
        return correspond(self.module, self.evaluation, self.training)


def trace(model: nn.Module, example: Tensor, *, block_hooks: bool = False) -> Trace:
    """Read `model` for images of the shape of `example` (float [N, C, H, W]). The model is copied and stays unchanged.

    Nothing is computed, so that neither time nor memory depends on the size of the images. Raises `InputError` for a
    bad example and `TraceError`, naming the place in the model's code and the remedy, when the model cannot be read.
    Hooks on blocks, which no graph holds, are refused too, unless the caller calls them itself (`block_hooks`).
    """
    check_images(example, "example")
    module = prepare(model, block_hooks=block_hooks)
    parameter = next(module.parameters(), None)
    like = torch.empty(0, dtype=(parameter if parameter is not None else example).dtype)
    like = like.to((parameter if parameter is not None else example).device)
    return _read(module, FakeModule(module), tuple(example.shape), like)


def read_again(model: nn.Module, shape: tuple[int, ...]) -> Trace:
    """Read a model that was read before, for images of `shape` [N, C, H, W], without copying its weights.

    Its layers are those of the trace.
    """
    parameter = next(model.parameters(), torch.empty(0))
    return _read(model, FakeModule(model), shape, torch.empty(0, dtype=parameter.dtype, device=parameter.device))


def _read(module: nn.Module, fakes: FakeModule, shape: tuple[int, ...], like: Tensor) -> Trace:
    # A copy is read, since other threads may be calling `module`, which would see its modes change and its hooks gone.
    copied = sharing_tensors(module)
    graphs = {}
    with READING:
        for training in (True, False):
            switch(copied, training)
            graphs[training], values = capture(copied, fakes, shape, like)
    vars(module).update({name: value for name, value in vars(copied).items() if name.startswith("_tensor_constant")})
    known = {node.name: values[node] for node in graphs[False].nodes if node in values}
    return Trace(
        module=module,
        evaluation=graphs[False],
        training=graphs[True],
        example=shape,
        values=known,
        shapes={name: tuple(value.shape) for name, value in known.items() if isinstance(value, Tensor)},
        _fakes=fakes,
        example_like=like,
    )


def switch(module: nn.Module, training: bool) -> None:
    """Put a module into training or evaluation mode, where it has the two."""
    try:
        module.train(training)
    except NotImplementedError:
        # A module that torch.export made has one mode, and refuses to be switched.
        for child in module.modules():
            child.training = training


def _rename(graph: fx.Graph, names: Mapping[fx.Node, str]) -> dict[str, str]:
    """Give nodes other names, and what would share one with them a new one; old name -> new name."""
    changed = {}
    taken = set(names.values())
    for node in graph.nodes:
        new = names.get(node, node.name)
        if node not in names:
            serial = 0
            while new in taken:
                serial += 1
                new = f"{node.name}_at_size_{serial}"
            taken.add(new)
        changed[node.name] = node.name = new
    return changed


def _line(node: fx.Node) -> str:
    # Functions by name: their repr holds an address.
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__qualname__", repr(node.target))
    return f"{node.name} {node.op} {target} {node.args} {dict(node.kwargs)}"
