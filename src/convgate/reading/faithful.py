"""Compare captured graphs with the model: what reading would change in its meaning is an error, not a surprise.

A graph may differ from its model where Python code did something that capturing did not see. So both run on the same
random images, in evaluation and in training with the same random draws, and must return the same.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from convgate.errors import ConvgateError, TraceError
from convgate.reading.modes import get_modes, set_modes
from convgate.reading.prepare import without_hooks
from convgate.reading.randomness import preserving_random_state
from convgate.reading.trace import Trace, switch

__all__ = ["check_faithful"]

_LARGE = 5_000_000_000
"""MACs per image beyond which the comparison takes a smaller size, if the model does."""
_SMALLEST = 32
_TOLERANCE = 1e-5


def check_faithful(trace: Trace, macs: int | None = None) -> None:
    """Raise `TraceError` where a graph of `trace` does not return what its model returns.

    Runs one image in evaluation and two in training, of the example's size, or of a smaller one for a model of more
    than 5 GMACs. Outputs must agree to 1e-5 of their largest value. The statistics of batch norms, the modes and the
    generators of random numbers stay unchanged; hooks are not called, since no graph holds them. What cannot run (on
    the meta device, or in training) is not compared.

    Args:
        trace: the model as `convgate.reading.trace` read it.
        macs: multiply-accumulates per image, where they are known.

    """
    if trace.example_like.is_meta or any(p.is_meta for p in trace.module.parameters()):
        return
    trace = _smaller(trace, macs or 0)
    # A compiled layer in the model is run as it was written: compiling it would take minutes, and differ by rounding.
    with (
        preserving_random_state(),
        _untouched(trace.module),
        without_hooks(trace.module),
        torch.no_grad(),
        torch.compiler.set_stance("force_eager"),
    ):
        for training in (False, True):
            switch(trace.module, training)
            _compare(trace, training)


def _smaller(trace: Trace, macs: int) -> Trace:
    height, width = trace.example[2:]
    while macs > _LARGE and min(height, width) // 2 >= _SMALLEST:
        height, width, macs = height // 2, width // 2, macs // 4
    if (height, width) == trace.example[2:]:
        return trace
    try:
        return trace.at(height, width)
    except ConvgateError:
        return trace


def _compare(trace: Trace, training: bool) -> None:
    graph = trace.training if training else trace.evaluation
    for count in dict.fromkeys((2 if training else 1, trace.example[0])):
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(count, *trace.example[1:], generator=generator).to(trace.example_like)
        expected = _outcome(trace.module, partial(trace.module, images.clone()))
        if expected is not None:
            break
    else:
        return  # Neither the model nor, then, its graph runs.
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(compile(code.src, f"<graph of {type(trace.module).__name__}>", "exec"), scope)
    actual = _outcome(trace.module, lambda: scope["forward"](trace.module, images.clone()))
    mode = "training" if training else "evaluation"
    name = type(trace.module).__name__
    remedy = (
        "Something in its forward was lost when it was read (a state that it keeps, a function outside of PyTorch, "
        "code that runs once): write it with tensor operations, or move it into a sub-module without convolutions"
    )
    if actual is None:
        raise TraceError(f"{name} was read wrongly: its graph does not run in {mode}. {remedy}")
    shape_a, shape_b = pytree.tree_structure(expected), pytree.tree_structure(actual)
    if shape_a != shape_b:
        raise TraceError(
            f"{name} returns {shape_a} in {mode}, and its graph {shape_b}. Return tensors, or tuples, lists, dicts, "
            "named tuples and dataclasses of them"
        )
    worst = _largest_distance(expected, actual)
    if worst > _TOLERANCE:
        raise TraceError(f"{name} was read wrongly: in {mode} its graph's output differs by {worst:.1e}. {remedy}")


def _outcome(module: nn.Module, run: Callable[[], Any]) -> Any:
    """What `run` returns, with the same random draws each time and buffers as they are; None where it fails."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    with _untouched(module):
        try:
            return run()
        except Exception:  # noqa: BLE001 -- the model's code may raise anything
            return None


def _largest_distance(a: Any, b: Any) -> float:
    """The largest distance of two outputs' parts; infinite where they are arranged otherwise."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return _distance(a, b)
    (parts_a, shape_a), (parts_b, shape_b) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    if shape_a != shape_b or type(a) is not type(b):
        return float("inf")
    if isinstance(a, dict) and shape_a.is_leaf():  # a dict of a class of its own, which `pytree` does not know
        return _largest_distance(dict(a), dict(b))
    if not shape_a.is_leaf():
        return max((_largest_distance(x, y) for x, y in zip(parts_a, parts_b, strict=True)), default=0.0)
    if is_dataclass(a):  # a leaf of the tree, with tensors inside that == would compare
        return max((_largest_distance(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)), default=0.0)
    return _distance(a, b)


def _distance(a: Any, b: Any) -> float:
    """The largest difference relative to the largest value; infinite for things of different kinds."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return 0.0 if type(a) is type(b) and (a == b or a != a) else float("inf")
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if not a.numel() or torch.equal(a, b):
        return 0.0
    if not (a.is_floating_point() or a.is_complex()):
        return float("inf")
    if not torch.equal(a.isfinite(), b.isfinite()):
        return float("inf")
    finite = a.isfinite()
    largest = a[finite].abs().max() if finite.any() else torch.ones(())
    difference = (a - b)[finite].abs().max() if finite.any() else torch.zeros(())
    # In half precision, operations in another order round differently.
    return float(difference / largest.clamp(min=1e-30)) * (1e-5 if a.dtype in (torch.half, torch.bfloat16) else 1.0)


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Put modes and buffers back at the end of the block."""
    modes = get_modes(module)
    buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        set_modes(module, modes)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if name in buffers and buffer.shape == buffers[name].shape:
                    buffer.copy_(buffers[name])
