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
from convgate.reading.alone import READING
from convgate.reading.copying import computes_weights, sharing_tensors
from convgate.reading.fakes import FakeMode, Form, fake_of, form_of
from convgate.reading.layers import configuration
from convgate.reading.trace import Trace
from convgate.reading.values import writable

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
    with _counting(trace.module) as (module, counter):
        run = _Counted(module, trace.evaluation, counter)
        run.run(_image(module, trace.example[1:] if image is None else image))
    return run.macs


def count_macs(module: nn.Module, image: tuple[int, ...]) -> int:
    """MACs of a module in evaluation mode for one image of shape [C, H, W].

    >>> count_macs(torch.nn.Conv2d(3, 8, 3, padding=1), (3, 4, 4))
    3456

    """
    with _counting(module) as (copied, counter):
        copied(_image(copied, image))
    return counter.get_total_flops() // 2


@contextmanager
def _counting(module: nn.Module) -> Iterator[tuple[nn.Module, FlopCounterMode]]:
    """A copy of `module` to run on fake tensors, and a counter of all FLOPs of the block.

    The copy is in evaluation, and its weights that are made of others are computed. `module` stays as it is: other
    threads may be calling it.
    """
    copied = sharing_tensors(module).eval()
    with READING:
        # The fused kernels that nn.MultiheadAttention takes in evaluation hide their matrix products from the counter.
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with torch.no_grad(), FakeMode(), parametrize.cached():
                _compute_weights(copied)
                with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
                    yield copied, counter
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)


def _compute_weights(module: nn.Module) -> None:
    """Compute all weights that are computed from others, once and for all: by hooks of `torch.nn.utils`, which are then
    removed, and those that `parametrize.cached` will keep.
    """
    for child in module.modules():
        for key, hook in list(child._forward_pre_hooks.items()):
            if computes_weights(hook):
                hook(child, ())
                del child._forward_pre_hooks[key]
        if parametrize.is_parametrized(child):
            for name in child.parametrizations:  # type: ignore[union-attr]
                getattr(child, name)


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
