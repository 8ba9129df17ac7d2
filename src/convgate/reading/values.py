"""What a model computes, without computing it: every operation's output as a fake tensor.

A fake tensor has a shape, a dtype and a device and no data, so that a model is run on an image of any size in
milliseconds per layer and no memory (`torch._subclasses.FakeTensorMode`, which `torch.export` uses, too). Questions of
the model's Python code - how large is this map, how many parts has this tuple - are answered from these values.

Answers must hold for every batch size. Each graph has therefore two `Values`: one at the example's batch size and one,
filled in only when a question is asked, at one image more. What is equal in both does not depend on the batch.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeCopyMode,
    FakeTensor,
    UnsupportedOperatorException,
)

from convgate.reading.copying import computes_weights, copies_of_empty
from convgate.reading.fakes import FakeMode, fake_like
from convgate.reading.layers import LayerOutputs
from convgate.reading.randomness import preserving_random_state

__all__ = ["FakeModule", "Values", "writable"]

_NEEDS_DATA = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)


class FakeModule:
    """A copy of a module without data: parameters and buffers are fake tensors.

    Hooks are left out, but for those that compute a layer's weights (`torch.nn.utils.prune`, `weight_norm`,
    `spectral_norm`): a hook of the user's must not be called with fake tensors.
    """

    def __init__(self, module: nn.Module) -> None:
        self.real = module
        self.mode = FakeMode()
        self.layers = LayerOutputs(self.mode)
        known = copies_of_empty(module) | _fake_tensors(module, self.mode)
        with FakeCopyMode(self.mode):
            self.fake = copy.deepcopy(module, known)
        for child in self.fake.modules():
            if isinstance(child, nn.SyncBatchNorm):  # refuses to train on a CPU; its output has the same shape
                child.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
            child._forward_hooks.clear()
            child._backward_hooks.clear()
            child._backward_pre_hooks.clear()
            for key, hook in list(child._forward_pre_hooks.items()):
                if not computes_weights(hook):
                    del child._forward_pre_hooks[key]

    def tensor(self, shape: tuple[int, ...], like: Tensor) -> FakeTensor:
        """A fake tensor of that shape, of the dtype and on the device of `like`."""
        with self.mode:
            return torch.empty(shape, dtype=like.dtype, device=like.device)  # type: ignore[return-value]

    def attribute(self, path: str) -> Any:
        """The value of an attribute, by its path from the root."""
        fake: Any = self.fake
        real: Any = self.real
        for name in path.split("."):
            fake, real = getattr(fake, name, None), getattr(real, name)
        # Tensors that forward makes are stored on the module while it is captured.
        return self.mode.from_tensor(real) if fake is None and isinstance(real, Tensor) else fake

    @contextmanager
    def standing_for(self, module: nn.Module) -> Iterator[None]:
        """Let the fake copy stand for `module`, of the same structure, for the block: in its modes, sub-module by
        sub-module, and with the tensors that its forward makes.
        """
        for child, original in zip(self.fake.modules(), module.modules(), strict=True):
            child.training = original.training
        before, self.real = self.real, module
        try:
            yield
        finally:
            self.real = before


def _fake_tensors(module: nn.Module, mode: FakeMode) -> dict[int, Any]:
    """`id` of a parameter or buffer -> a fake tensor like it, for those that are ordinary tensors.

    PyTorch's own conversion, which `FakeCopyMode` takes for the others, needs half a millisecond for each.
    """
    ordinary = [
        tensor
        for tensor in (*module.parameters(), *module.buffers())
        if type(tensor) in (nn.Parameter, Tensor) and tensor.layout is torch.strided and tensor.is_leaf
        if not (tensor.is_quantized or tensor.__dict__)
    ]
    return {id(tensor): fake_like(tensor, mode) for tensor in ordinary}


class Values:
    """The value of every node of a graph at one batch size, computed node by node in the graph's order."""

    def __init__(self, module: FakeModule, images: FakeTensor) -> None:
        self._module, self._images = module, images
        self._known: dict[fx.Node, Any] = {}
        self._last: fx.Node | None = None

    def __contains__(self, node: fx.Node) -> bool:
        return node in self._known

    def __getitem__(self, node: fx.Node) -> Any:
        return self._known[node]

    def of(self, arguments: Any) -> Any:
        """`arguments` with every node in them replaced by its value, in lists and dicts that may be written to."""
        if isinstance(arguments, fx.Node):
            return self._known[arguments]
        if isinstance(arguments, tuple):
            items = [self.of(item) for item in arguments]
            return type(arguments)(*items) if hasattr(arguments, "_fields") else tuple(items)
        if isinstance(arguments, list):
            return [self.of(item) for item in arguments]
        if isinstance(arguments, dict):
            return {key: self.of(item) for key, item in arguments.items()}
        return fx.node.map_arg(arguments, lambda node: self._known[node])

    def add(self, node: fx.Node, value: Any) -> None:
        """Note a value that `evaluate` returned."""
        self._known[node] = value

    def catch_up(self, graph: fx.Graph) -> None:
        """Evaluate every node of `graph` that was recorded since this was called last."""
        node = next(iter(graph.nodes)) if self._last is None else self._last.next
        while node.op != "root":
            self._known[node] = self.evaluate(node.op, node.target, node.args, node.kwargs)
            self._last = node
            node = node.next

    def evaluate(self, op: str, target: Any, args: Any, kwargs: Any) -> Any:
        """What an operation returns; nodes among its arguments stand for their values."""
        if op == "placeholder":
            return self._images
        args, kwargs = self.of(args), self.of(kwargs)
        with torch.no_grad(), self._module.mode:
            if op == "get_attr":
                return self._module.attribute(str(target))
            if op == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            if op == "call_function":
                return target(*args, **kwargs)
        layer = self._module.fake.get_submodule(str(target))
        return self._module.layers.run(layer, args, kwargs, partial(self._run, str(target), layer, args, kwargs))

    def _run(self, target: str, layer: nn.Module, args: Any, kwargs: Any) -> Any:
        with preserving_random_state():
            try:
                with torch.no_grad(), self._module.mode:
                    return layer(*args, **kwargs)
            except _NEEDS_DATA:
                # A layer may look at values when it runs; what it returns for zeros tells the shapes.
                return self._from_zeros(self._module.real.get_submodule(target), args, kwargs)

    def _from_zeros(self, layer: nn.Module, args: Any, kwargs: Any) -> Any:
        def zeros(value: Any) -> Any:
            return torch.zeros(value.shape, dtype=value.dtype, device=value.device) if _is_fake(value) else value

        layer = copy.deepcopy(layer)
        with torch.no_grad():
            output = layer(*fx.node.map_aggregate(args, zeros), **fx.node.map_aggregate(kwargs, zeros))
        from_tensor: Any = self._module.mode.from_tensor
        return fx.node.map_aggregate(output, lambda v: from_tensor(v) if _is_real(v) else v)


def _is_fake(value: Any) -> bool:
    return isinstance(value, FakeTensor)


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, FakeTensor)


def writable(arguments: Any) -> Any:
    """A node's arguments in plain lists and dicts, as the model passed them: some layers write into them."""
    if isinstance(arguments, list):
        return [writable(item) for item in arguments]
    if isinstance(arguments, dict):
        return {key: writable(item) for key, item in arguments.items()}
    return tuple(writable(item) for item in arguments) if type(arguments) is tuple else arguments
