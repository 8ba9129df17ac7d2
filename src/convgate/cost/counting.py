"""Count the multiply-accumulates (MACs) of every node of a graph, for one image, without computing anything.

The graph runs on fake tensors, which have shapes and no values, under PyTorch's FLOP counter and our formulas for what
that counter misses. Its batch is one image: what a network computes once per batch (a weight made of two factors) is
counted for one image, not for the example's batch. Weights that `torch.nn.utils` computes from others (`parametrize`,
`spectral_norm`) are computed before: they are the same for every image, and inference computes them once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from convgate.cost.formulas import flop_formulas
from convgate.errors import TraceError
from convgate.reading.fakes import FakeMode, Form, fake_of, form_of
from convgate.reading.layers import configuration
from convgate.reading.modes import evaluating
from convgate.reading.trace import Trace
from convgate.reading.values import computes_weights, writable

__all__ = ["count_macs", "node_macs"]


def node_macs(trace: Trace, image: tuple[int, ...] | None = None) -> dict[str, int]:
    """MACs of each node of a trace's evaluation graph, for one image; nodes without any are left out.

    Args:
        trace: a model as `convgate.reading.trace` read it.
        image: the image's shape [C, H, W]; by default the example's.

    Returns:
        Node name -> multiply-accumulates, in the graph's order.

    Raises:
        TraceError: a node cannot be run on one image of this shape.

    >>> import torch, convgate
    >>> from convgate.reading.trace import trace
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(128, 10))
    >>> node_macs(trace(model, torch.zeros(2, 3, 4, 4)))
    {'_0': 3456, '_2': 1280}

    """
    with evaluating(trace.module), _counting(trace.module) as counter:
        run = _Counted(trace.module, trace.evaluation, counter)
        run.run(_image(trace.module, trace.example[1:] if image is None else image))
    return run.macs


def count_macs(module: nn.Module, image: tuple[int, ...]) -> int:
    """MACs of a module in evaluation mode for one image of shape [C, H, W].

    >>> count_macs(torch.nn.Conv2d(3, 8, 3, padding=1), (3, 4, 4))
    3456

    """
    with evaluating(module), _counting(module) as counter:
        module(_image(module, image))
    return counter.get_total_flops() // 2


@contextmanager
def _counting(module: nn.Module) -> Iterator[FlopCounterMode]:
    """Fake tensors, no gradients, weights that are made of others computed, and a counter of all FLOPs."""
    # The fused kernels that nn.MultiheadAttention takes in evaluation hide their matrix products from the counter.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.no_grad(),
            FakeMode(),
            parametrize.cached(),
            _weights_of_hooks(module),
        ):
            _compute_parametrized(module)
            with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
                yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _compute_parametrized(module: nn.Module) -> None:
    """Compute all weights that are computed from others, for `parametrize.cached` to keep."""
    for child in module.modules():
        if parametrize.is_parametrized(child):
            for name in child.parametrizations:  # type: ignore[union-attr]
                getattr(child, name)


@contextmanager
def _weights_of_hooks(module: nn.Module) -> Iterator[None]:
    """Weights that hooks of `torch.nn.utils` compute before each call are computed at once, for the block."""
    kept = []
    for child in module.modules():
        hooks = dict(child._forward_pre_hooks)
        computing = [key for key, hook in hooks.items() if computes_weights(hook)]
        if computing:
            kept.append((child, hooks, dict(vars(child))))
        for key in computing:
            hooks[key](child, ())
            del child._forward_pre_hooks[key]
    try:
        yield
    finally:
        for child, hooks, attributes in kept:
            child._forward_pre_hooks.clear()
            child._forward_pre_hooks.update(hooks)
            vars(child).update(attributes)  # The weights, which were fake tensors for the block.


def _image(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    parameter = next(module.parameters(), torch.empty(0))
    return torch.empty(1, *shape, device=parameter.device, dtype=parameter.dtype)


class _Counted(fx.Interpreter):
    """Runs a graph, noting each node's MACs."""

    def __init__(self, module: nn.Module, graph: fx.Graph, counter: FlopCounterMode) -> None:
        super().__init__(module, graph=graph)
        self.extra_traceback = False  # Errors say by themselves which node it was.
        self.macs: dict[str, int] = {}
        self._counter = counter
        self._known: dict[Any, tuple[Form, int]] = {}
        self._repeated = 0

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[Any, Any]:
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return writable(args), writable(kwargs)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Count one layer of each configuration; the others return the same, for the same number of MACs."""
        key = configuration(self.fetch_attr(target), args, kwargs)
        if key in self._known:
            form, flops = self._known[key]
            self._repeated += flops
            return fake_of(args[0].fake_mode, form)
        before = self._flops
        output = super().call_module(target, args, kwargs)
        if key is not None and type(output) is FakeTensor:
            self._known[key] = form_of(output), self._flops - before
        return output

    @property
    def _flops(self) -> int:
        return self._counter.get_total_flops() + self._repeated

    def run_node(self, n: fx.Node) -> Any:
        before = self._flops
        try:
            output = super().run_node(n)
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            raise TraceError(
                f"the MACs of node '{n.name}' ({n.op} {n.target}) cannot be counted: it fails on one image without "
                f"values: {type(error).__name__}: {first_line}. Give an example of the shape that the model expects; a "
                "layer that reads the values of tensors, or needs more than one image, cannot be in a gated model"
            ) from error
        flops = self._flops - before
        if flops:
            self.macs[n.name] = flops // 2
        return output
