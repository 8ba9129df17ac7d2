"""What only Python sees while a model is captured: regions (`with` blocks), and functions that refuse proxies."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, Protocol
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convgate.reading.contexts import enter_autocast, leave_autocast, set_grad
from convgate.reading.proxies import Proxy, Shape, holds_proxy

__all__ = ["Recorder", "recording"]

_RANDOM = (torch.rand, torch.randn, torch.randint, torch.randperm, torch.rand_like, torch.randn_like, torch.bernoulli)
_SIZED = ("zeros", "ones", "empty", "rand", "randn")
"""Functions of torch that take sizes one by one, and then refuse a proxy as the first before anybody can see it."""
_SIZED_METHODS = ("expand", "repeat", "tile", "reshape", "view", "new_zeros", "new_ones", "new_empty")
"""Methods of tensors that do."""


class Recorder(Protocol):
    """Where operations are recorded."""

    @property
    def evaluating(self) -> bool:
        """Whether an operation must not be recorded: it is being computed on fake tensors, or by another thread."""

    @property
    def batch_is_fixed(self) -> bool:
        """Whether what follows is recorded for one number of images."""

    def create_proxy(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record an operation; what the model's code sees of its result."""

    def mark(self, function: Callable[..., Any], *args: Any) -> Any:
        """Record the beginning or the end of a region; the proxy of what `function` will return."""

    def refuse(self, what: str) -> Any:
        """Raise the error that the model's code does `what`."""


@contextmanager
def recording(recorder: Recorder, module: nn.Module) -> Iterator[None]:
    """Patch PyTorch for the block, so that regions and tensors made from nothing are recorded by `recorder`.

    In the files of `module`'s code, `isinstance` takes a proxy for what it stands for.
    """
    with ExitStack() as stack:
        for scope in _scopes(module):
            stack.enter_context(_defined(scope, "isinstance", _is_instance))
        if (einops := sys.modules.get("einops.einops")) is not None:
            # It keeps shapes that it was given, and with them proxies, for good.
            for name in [name for name in vars(einops) if hasattr(einops, f"{name}_uncached")]:
                stack.enter_context(mock.patch.object(einops, name, getattr(einops, f"{name}_uncached")))
        stack.enter_context(mock.patch.object(torch, "is_tensor", partial(_is_instance, kind=Tensor)))
        stack.enter_context(mock.patch.object(torch.autograd.Function, "apply", _own_gradient(recorder)))
        for name in _SIZED:
            stack.enter_context(mock.patch.object(torch, name, _sized(recorder, getattr(torch, name))))
        for name in _SIZED_METHODS:
            stack.enter_context(mock.patch.object(Tensor, name, _sized_method(recorder, getattr(Tensor, name))))
        stack.enter_context(mock.patch.object(torch, "finfo", _valued(torch.finfo)))
        stack.enter_context(mock.patch.object(torch.autocast, "__enter__", _autocast(recorder)))
        stack.enter_context(mock.patch.object(torch.autocast, "__exit__", _leave_autocast(recorder)))
        stack.enter_context(mock.patch.object(torch.inference_mode, "__enter__", _inference_mode(recorder)))
        stack.enter_context(_Factories(recorder))
        yield


@contextmanager
def _defined(scope: dict[str, Any], name: str, value: Any) -> Iterator[None]:
    """Define a global name for the block. `mock.patch.dict` would empty the scope for a moment, which others run in."""
    before = {name: scope[name]} if name in scope else {}
    scope[name] = value
    try:
        yield
    finally:
        if before:
            scope.update(before)
        else:
            del scope[name]


class _Factories(TorchFunctionMode):
    """Sees calls of torch that have no proxy to see them: tensors made from nothing, and the gradient mode."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._regions: list[tuple[Any, bool]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._recorder.evaluating:
            return func(*args, **kwargs)
        if func is torch._C._set_grad_enabled:
            return self._set_grad(*args)
        args, kwargs = _with_plain_tuples(args), _with_plain_tuples(kwargs)
        if func in _RANDOM or (not types and holds_proxy((args, kwargs))):
            return self._record(func, args, kwargs)
        output = func(*args, **kwargs)
        if self._recorder.batch_is_fixed and not types and isinstance(output, Tensor) and func.__name__ != "__get__":
            # Its size may be that of the batch: not a constant, then.
            return self._record(func, args, kwargs)
        return output

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = func.__name__
        if getattr(Tensor, name, None) is func:
            return self._recorder.create_proxy("call_method", name, args, kwargs)
        return self._recorder.create_proxy("call_function", func, args, kwargs)

    def _set_grad(self, enabled: bool) -> None:
        before = torch.is_grad_enabled()
        if self._regions and self._regions[-1][1] == enabled:
            begun, _ = self._regions.pop()
            self._recorder.mark(set_grad, enabled, begun)
        else:
            self._regions.append((self._recorder.mark(set_grad, enabled), before))
        torch._C._set_grad_enabled(enabled)


def _with_plain_tuples(values: Any) -> Any:
    """`values` with tuples in place of shapes, in which `torch.fx` would not look for proxies."""
    if isinstance(values, Shape):
        return tuple(values)
    if type(values) in (tuple, list):
        return type(values)(_with_plain_tuples(value) for value in values)
    return {key: _with_plain_tuples(value) for key, value in values.items()} if type(values) is dict else values


def _sized(recorder: Recorder, function: Callable[..., Any]) -> Callable[..., Any]:
    def factory(*size: Any, **kwargs: Any) -> Any:
        if not recorder.evaluating and size and holds_proxy(size):
            size = tuple(size[0]) if isinstance(size[0], tuple | list) else size
            return recorder.create_proxy("call_function", function, (size,), kwargs)
        return function(*size, **kwargs)

    return factory


def _sized_method(recorder: Recorder, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def called(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not recorder.evaluating and holds_proxy((args, kwargs)):
            return recorder.create_proxy("call_method", method.__name__, (tensor, *args), kwargs)
        return method(tensor, *args, **kwargs)

    return called


def _scopes(module: nn.Module) -> list[dict[str, Any]]:
    """The global names of the code that is read, but for PyTorch's own and ours; and those of einops."""
    functions = [inspect.unwrap(type(child).forward) for child in module.modules()]
    scopes = {id(f.__globals__): f.__globals__ for f in functions if inspect.isfunction(f)}
    if (einops := sys.modules.get("einops._backends")) is not None:
        scopes[id(vars(einops))] = vars(einops)
    ours = ("torch.", "convgate.")
    return [scope for scope in scopes.values() if not str(scope.get("__name__")).startswith(ours)]


def _is_instance(value: Any, kind: Any) -> bool:
    """`isinstance` for the model's code: a proxy is what it stands for.

    A proxy cannot say so itself, through `__class__`: PyTorch's C++ would believe it and read a tensor's memory.
    """
    if type(value) is Proxy and not isinstance(value, kind):
        value = value.tracer.values[value.node]
    return isinstance(value, kind)


def _own_gradient(recorder: Recorder) -> Any:
    """`Function.apply` that is recorded as one operation: a graph of its forward would lose its backward."""
    original = inspect.getattr_static(torch.autograd.Function, "apply")

    def apply(kind: Any, *args: Any, **kwargs: Any) -> Any:
        if recorder.evaluating or not holds_proxy((args, kwargs)) or kind.__module__.startswith("torch."):
            return original.__get__(None, kind)(*args, **kwargs)

        def applied(*inputs: Any, **named: Any) -> Any:
            return kind.apply(*inputs, **named)

        applied.__name__, applied.__module__ = kind.__name__, kind.__module__
        return recorder.create_proxy("call_function", applied, args, kwargs)

    return classmethod(apply)


def _valued(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, given the value of a proxy (a dtype) in its place."""

    def called(argument: Any) -> Any:
        if isinstance(argument, Proxy):
            argument = argument.tracer.values[argument.node]
        return function(argument)

    return called


def _autocast(recorder: Recorder) -> Callable[..., Any]:
    enter = torch.autocast.__enter__

    def begin(region: Any) -> Any:
        if not recorder.evaluating:
            how = region.device, region.fast_dtype, region._enabled, region._cache_enabled
            region._convgate_begun = recorder.mark(enter_autocast, *how)
        return enter(region)

    return begin


def _leave_autocast(recorder: Recorder) -> Callable[..., Any]:
    leave = torch.autocast.__exit__

    def end(region: Any, *error: Any) -> Any:
        begun = region.__dict__.pop("_convgate_begun", None)
        if begun is not None and error[0] is None:
            recorder.mark(leave_autocast, begun)
        return leave(region, *error)

    return end


def _inference_mode(recorder: Recorder) -> Callable[..., Any]:
    enter = torch.inference_mode.__enter__

    def begin(region: Any) -> Any:
        if not recorder.evaluating:
            recorder.refuse("runs under torch.inference_mode(); use torch.no_grad(), which a graph can carry")
        return enter(region)

    return begin
