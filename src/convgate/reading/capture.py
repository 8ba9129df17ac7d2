"""Capture a model's forward as a `torch.fx` graph, for one size of the images and any number of them.

The model's Python code runs once. What it computes with tensors is recorded; what it asks about them (their shapes,
how many there are, whether two sizes agree) is answered at once from fake tensors computed beside (see
`convgate.reading.values`). So assertions on shapes, loops over parts of a tensor and decisions on sizes leave no trace
in the graph, while decisions on values of tensors, which it cannot carry, are refused by file and line.
"""

import inspect
import operator
import os
import sys
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, NoReturn
from unittest import mock

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.overrides import TorchFunctionMode

from convgate.errors import TraceError
from convgate.reading.contexts import enter_autocast, leave_autocast, set_grad
from convgate.reading.dead_code import eliminate_dead_code
from convgate.reading.randomness import preserving_random_state, random_state, who_drew
from convgate.reading.values import FakeModule, Values

__all__ = ["COUNTED_MODULES", "capture"]

COUNTED_MODULES = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase)
_RANDOM = (torch.rand, torch.randn, torch.randint, torch.randperm, torch.rand_like, torch.randn_like, torch.bernoulli)
_SIZED = ("zeros", "ones", "empty", "rand", "randn")
"""Functions of torch that take sizes one by one, and then refuse a proxy as the first before anybody can see it."""
_PROBES = (1, 64)
"""Further batch sizes at which a decision on the batch size is tried before it is taken."""
_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep
_CHECKPOINT = os.path.join(_TORCH, "utils", "checkpoint.py")


def capture(module: nn.Module, fakes: FakeModule, shape: tuple[int, ...], like: Tensor) -> tuple[fx.Graph, Values]:
    """The graph of `module` in the mode that it is in, and the value of each of its nodes.

    Args:
        module: the model; its forward takes images first and has defaults for anything else.
        fakes: the same model without data.
        shape: of the images [N, C, H, W]. H and W become part of the graph, N does not.
        like: a tensor of the images' dtype and device.

    Raises:
        TraceError: the model cannot be captured; names the file and line of its code and what to do.

    """
    before = random_state()
    with preserving_random_state():
        result = _capture(_Tracer(fakes, shape, like), module)
        if who_drew(before) is None:
            return result
    # Found only now, which costs nothing where nobody draws; so it is captured again to see where.
    with preserving_random_state():
        _capture(_Tracer(fakes, shape, like, watching=True), module)
    raise TraceError(_drawn(type(module).__name__, "a generator of random numbers"))


def _capture(tracer: "_Tracer", module: nn.Module) -> tuple[fx.Graph, Values]:
    written = _Attributes(module)
    try:
        with warnings.catch_warnings(), torch.enable_grad(), tracer.recording(module):
            warnings.filterwarnings("ignore", message="Was not able to add assertion")
            graph = tracer.trace(module)
    except TraceError:
        raise
    except Exception as error:
        raise tracer.failure(module, error) from error
    finally:
        changed = written.restore()
    if changed:
        raise TraceError(
            f"the forward of {type(module).__name__} writes {changed}, which a graph cannot carry: the gated network "
            "would not write it. Return the value, or write it from outside of forward"
        )
    eliminate_dead_code(module, graph)
    return graph, tracer.values


class _Proxy(fx.Proxy):
    """A tensor in the model's code (or a number that depends on the batch size)."""

    tracer: "_Tracer"

    def __getattr__(self, name: str) -> Any:
        return self.tracer.attribute(self, name)

    def __iter__(self) -> Iterator[Any]:
        return iter([operator.getitem(self, index) for index in range(len(self))])

    def __len__(self) -> int:
        return self.tracer.ask(self, "its length", len)

    def __bool__(self) -> bool:
        return self.tracer.ask(self, "whether it is true", bool)

    def __int__(self) -> int:
        return self.tracer.ask(self, "its value as an int", int)

    def __index__(self) -> int:
        return self.tracer.ask(self, "its value as an int", int)

    def __float__(self) -> float:
        return self.tracer.ask(self, "its value as a float", float)

    def __contains__(self, item: Any) -> bool:
        return any(bool(item == own) for own in self)

    def keys(self) -> Any:
        return self.tracer.attribute(self, "keys")()


class _Shape(tuple):
    """A tensor's shape: like `torch.Size`, but the batch size in it may be a proxy."""

    def numel(self) -> Any:
        product: Any = 1
        for length in self:
            product = product * length
        return product


class _Factories(TorchFunctionMode):
    """Sees calls of torch that have no proxy to see them: tensors made from nothing, and the gradient mode."""

    def __init__(self, tracer: "_Tracer") -> None:
        super().__init__()
        self._tracer = tracer
        self._regions: list[tuple[Any, bool]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._tracer.evaluating:
            return func(*args, **kwargs)
        if func is torch._C._set_grad_enabled:
            return self._set_grad(*args)
        if func in _RANDOM or (not types and _holds_proxy((args, kwargs))):
            return self._tracer.create_proxy("call_function", func, args, kwargs)
        return func(*args, **kwargs)

    def _set_grad(self, enabled: bool) -> None:
        before = torch.is_grad_enabled()
        if self._regions and self._regions[-1][1] == enabled:
            begun, _ = self._regions.pop()
            self._tracer.mark(set_grad, enabled, begun)
        else:
            self._regions.append((self._tracer.mark(set_grad, enabled), before))
        torch._C._set_grad_enabled(enabled)


class _Tracer(fx.Tracer):
    """Leaves: what torch.nn defines, every convolution or linear layer, and modules with neither inside.

    The last rule keeps norm-activation layers, drop path and the like whole, so that what they do with
    `self.training` is decided when they run, not when they are captured.
    """

    proxy_buffer_attributes = True  # A buffer that changes after capturing must not be frozen into the graph.

    def __init__(self, fakes: FakeModule, shape: tuple[int, ...], like: Tensor, *, watching: bool = False) -> None:
        super().__init__()
        self._fakes, self._shape, self._like, self._watching = fakes, shape, like, watching
        self.batch = max(shape[0], 2)  # Norms refuse a batch of one map of 1x1 in training.
        self.values = self._values(self.batch)
        self._others: dict[int, Values | None] = {}
        self.evaluating = False

    def _values(self, batch: int) -> Values:
        return Values(self._fakes, self._fakes.tensor((batch, *self._shape[1:]), self._like))

    # -- capturing -------------------------------------------------------------------------------------------------

    @contextmanager
    def recording(self, module: nn.Module) -> Iterator[None]:
        """Patch, for the block, what only Python sees: regions, and factories that refuse proxies."""
        self._names = {id(p): name for name, p in module.named_parameters()}
        self._names |= {id(b): name for name, b in module.named_buffers()}
        with ExitStack() as stack:
            stack.enter_context(self._fakes.in_mode_of(module))
            for name in _SIZED:
                stack.enter_context(mock.patch.object(torch, name, self._sized(getattr(torch, name))))
            stack.enter_context(mock.patch.object(torch, "finfo", _valued(torch.finfo)))
            stack.enter_context(mock.patch.object(torch.autocast, "__enter__", self._autocast()))
            stack.enter_context(mock.patch.object(torch.autocast, "__exit__", self._leave_autocast()))
            stack.enter_context(mock.patch.object(torch.inference_mode, "__enter__", self._inference_mode()))
            stack.enter_context(_Factories(self))
            yield

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        _self, images, *others = inspect.signature(root_fn).parameters.values()
        kinds = inspect.Parameter
        required = [
            p.name for p in others
            if p.default is p.empty and p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        ]  # fmt: skip
        if required:
            raise TraceError(
                f"{type(self.root).__name__}.forward takes {1 + len(required)} inputs, '{required[0]}' among them; "
                "wrap it in a module whose forward takes the images alone"
            )
        name = "images" if images.kind is kinds.VAR_POSITIONAL else images.name
        node = fx.Tracer.create_node(self, "placeholder", name, (), {})
        self.values.add(node, self.values.evaluate("placeholder", name, (), {}))
        return root_fn, [self.root, self.proxy(node)]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, COUNTED_MODULES) or super().is_leaf_module(m, module_qualified_name):
            return True
        if isinstance(m, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            return False
        own_parameters = list(m.parameters(recurse=False))
        matrix_inside = any(isinstance(child, COUNTED_MODULES) for child in m.modules())
        return not matrix_inside and not any(p.dim() > 1 for p in own_parameters)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.evaluating:
            return forward(*args, **kwargs)
        if _within_checkpoint():
            raise self._error(
                f"runs {type(m).__name__} '{self.path_of_module(m)}' under torch.utils.checkpoint, which a graph would "
                "drop. Switch gradient checkpointing off before gating (timm: model.set_grad_checkpointing(False))",
                tensors=False,
            )
        if not self._watching:
            return super().call_module(m, forward, args, kwargs)
        before = random_state()
        output = super().call_module(m, forward, args, kwargs)
        drawn = who_drew(before)
        if drawn:
            raise TraceError(_drawn(f"{type(m).__name__} '{self.path_of_module(m)}'", drawn))
        return output

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        name = self._names.get(id(attr_val)) if isinstance(attr_val, Tensor) and not self.evaluating else None
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def proxy(self, node: fx.Node) -> _Proxy:
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor) and id(a) in self._names:
            return self.create_node("get_attr", self._names[id(a)], (), {})
        if isinstance(a, Tensor) and a not in self.tensor_attrs and (known := self._constant_like(a)):
            self.tensor_attrs[a] = known
        if isinstance(a, _Shape):
            return tuple(self.create_arg(length) for length in a)
        if isinstance(a, OrderedDict):
            return self.create_node("call_function", type(a), (super().create_arg(dict(a)),), {})
        return super().create_arg(a)

    def _constant_like(self, tensor: Tensor) -> str | None:
        """The tensor that an earlier capture stored on the model and that equals this one, made in forward anew."""
        for name, known in vars(self.root).items():
            if not name.startswith("_tensor_constant") or known.device != tensor.device:
                continue
            if known.dtype == tensor.dtype and known.shape == tensor.shape and torch.equal(known, tensor):
                return name
        return None

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *others: Any, **named: Any) -> fx.Node:
        """Record a node that is an argument: a parameter, or a container of a special type."""
        node = super().create_node(kind, target, args, kwargs, *others, **named)
        if kind != "output":
            self.values.add(node, self._evaluated(self.values, kind, target, args, kwargs))
        return node

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any | None = None,
        proxy_factory_fn: Any = None,
    ) -> Any:
        """Record an operation, and return what the model's code sees of its result.

        That is a proxy for a tensor; a tuple, list or dict of proxies where it returns one; and a plain number (nothing
        is recorded then) where it asks for a size that does not depend on the batch.
        """
        args, kwargs = self.create_arg(args), self.create_arg(kwargs)
        value = self._evaluated(self.values, kind, target, args, kwargs)
        if _is_plain(value) and self._holds_for_any_batch(value, kind, target, args, kwargs):
            return value
        node = fx.Tracer.create_node(self, kind, target, args, kwargs, name, type_expr)
        self.values.add(node, value)
        return self._present(node, value)

    def mark(self, function: Callable[..., Any], *args: Any) -> Any:
        """Record the beginning or the end of a region; the proxy of what `function` will return."""
        node = fx.Tracer.create_node(self, "call_function", function, self.create_arg(args), {})
        self.values.add(node, None)
        return self.proxy(node)

    # -- what the model's code sees --------------------------------------------------------------------------------

    def attribute(self, proxy: _Proxy, name: str) -> Any:
        found = getattr(self.values[proxy.node], name)  # AttributeError where the tensor has none
        if name in ("requires_grad", "grad", "grad_fn", "is_leaf"):
            self._refuse(proxy, f"asks for '{name}' of a tensor, which depends on how the network will be run")
        if callable(found) and not isinstance(found, Tensor | torch.dtype):
            return fx.proxy.Attribute(proxy, name)
        return self.create_proxy("call_function", getattr, (proxy, name), {})

    def ask(self, proxy: _Proxy, what: str, convert: Callable[[Any], Any]) -> Any:
        """Answer a question of Python (`len`, `bool`, `int`, `float`) if the answer is the same for every batch."""
        value = self.values[proxy.node]
        if isinstance(value, Tensor) and convert is not len:
            self._refuse(proxy, f"asks a tensor for {what}: a decision on values that are not known yet")
        answer = convert(value)
        if not self._agree(answer, lambda values: convert(values[proxy.node]), (self.batch + 1, *_PROBES)):
            self._refuse(
                proxy,
                f"asks for {what}, which depends on the batch size. Write it with x.shape[0] or x.size(0) as it is "
                "(without int() or a loop over images)",
            )
        return answer

    def _present(self, node: fx.Node, value: Any) -> Any:
        """What Python sees of a node: its proxy, or a container of proxies."""
        proxy = self.proxy(node)
        if isinstance(value, Mapping):
            parts = {key: self._part(proxy, key) for key in value}
            if type(value) is dict:
                return parts
            copied = type(value)() if isinstance(value, OrderedDict) and type(value) is OrderedDict else None
            if copied is None:
                return proxy
            copied.update(parts)
            return copied
        if isinstance(value, tuple | list):
            if not self._agree(len(value), lambda values: len(values[node]), (self.batch + 1,)):
                return proxy
            items = [self._part(proxy, index) for index in range(len(value))]
            if isinstance(value, torch.Size):
                return _Shape(items) if _holds_proxy(items) else torch.Size(items)
            if hasattr(value, "_fields"):
                return type(value)(*items)
            return type(value)(items)
        return None if value is None else proxy

    def _part(self, proxy: _Proxy, key: Any) -> Any:
        return self.create_proxy("call_function", operator.getitem, (proxy, key), {})

    # -- values ----------------------------------------------------------------------------------------------------

    def _evaluated(self, values: Values, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        self.evaluating = True
        try:
            return values.evaluate(kind, target, args, kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            what = "depends on values that are not known yet"
            raise self._error(f"calls {_called(target)}, whose result {what}", tensors=True) from error
        except Exception as error:
            if values is not self.values:
                raise
            raise self._failing(kind, target, args, kwargs, error) from error
        finally:
            self.evaluating = False

    def _holds_for_any_batch(self, value: Any, kind: str, target: Any, args: Any, kwargs: Any) -> bool:
        """Whether an operation returns the plain `value` for every number of images."""
        numbers: list[bool] = []
        fx.node.map_arg((args, kwargs), lambda node: numbers.append(isinstance(self.values[node], int | float)))
        # Numbers of which the code makes others depend on the batch already: those are tried more often.
        batches = (self.batch + 1, *_PROBES) if any(numbers) else (self.batch + 1,)
        return self._agree(value, lambda values: self._evaluated(values, kind, target, args, kwargs), batches)

    def _agree(self, answer: Any, other: Callable[[Values], Any], batches: tuple[int, ...]) -> bool:
        """Whether `other` gives the same answer at these batch sizes; those that the model does not take count not."""
        for batch in batches:
            if batch not in self._others:
                self._others[batch] = self._values(batch)
            values = self._others[batch]
            if values is None or batch == self.batch:
                continue
            self.evaluating = True
            try:
                values.catch_up(self.graph)
                differs = not _same(other(values), answer)
            except Exception:  # noqa: BLE001 -- whatever is wrong: the model takes no such batch
                self._others[batch] = None
                continue
            finally:
                self.evaluating = False
            if differs:
                return False
        return True

    # -- refusing --------------------------------------------------------------------------------------------------

    def failure(self, module: nn.Module, error: Exception) -> TraceError:
        """The error that says where in the model's code `error` was raised."""
        trail = traceback.extract_tb(error.__traceback__)
        users = [frame for frame in trail if not frame.filename.startswith((_TORCH, _HERE))]
        place = f"{users[-1].filename}:{users[-1].lineno}" if users else "an unknown place"
        return TraceError(
            f"{type(module).__name__} cannot be read {self._after()}, at {place}: {type(error).__name__}: "
            f"{first_line(error)}. Move what happens there into a sub-module without convolutions, or gate the part of "
            "the model that can be read"
        )

    def _refuse(self, proxy: _Proxy, what: str) -> NoReturn:
        raise self._error(what, tensors=isinstance(self.values[proxy.node], Tensor))

    def _error(self, what: str, *, tensors: bool) -> TraceError:
        remedy = (
            ". A graph cannot carry that: compute it with tensor operations (torch.where, a product with a mask), move "
            "it into a sub-module without convolutions, or gate the part of the model that can be read"
        )
        what = f"{what}{remedy}" if tensors else what
        return TraceError(f"{type(self.root).__name__} cannot be read {self._after()}: {_user_place()} {what}")

    def _failing(self, kind: str, target: Any, args: Any, kwargs: Any, error: Exception) -> TraceError:
        shapes: list[str] = []

        def note(node: fx.Node) -> fx.Node:
            value = self.values[node]
            if isinstance(value, Tensor) and node.op != "get_attr":
                shapes.append(str(list(value.shape)))
            return node

        fx.node.map_arg((args, kwargs), note)
        name = self.graph._target_to_str(target)
        return TraceError(
            f"node '{name}' ({kind} {_called(target)}) at {_user_place()} fails on the example (its inputs: "
            f"{', '.join(shapes) or 'none'}): {type(error).__name__}: {first_line(error)}. Give an example of the "
            "shape that the model expects"
        )

    def _after(self) -> str:
        nodes = list(self.graph.nodes) if hasattr(self, "graph") else []
        return f"after node '{nodes[-1].name}'" if nodes else "at all"

    # -- patches ---------------------------------------------------------------------------------------------------

    def _sized(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def factory(*size: Any, **kwargs: Any) -> Any:
            if not self.evaluating and size and isinstance(size[0], fx.Proxy):
                return self.create_proxy("call_function", function, (size,), kwargs)
            return function(*size, **kwargs)

        return factory

    def _autocast(self) -> Callable[..., Any]:
        enter = torch.autocast.__enter__

        def begin(region: Any) -> Any:
            if not self.evaluating:
                how = region.device, region.fast_dtype, region._enabled, region._cache_enabled
                region._convgate_begun = self.mark(enter_autocast, *how)
            return enter(region)

        return begin

    def _leave_autocast(self) -> Callable[..., Any]:
        leave = torch.autocast.__exit__

        def end(region: Any, *error: Any) -> Any:
            begun = region.__dict__.pop("_convgate_begun", None)
            if begun is not None and error[0] is None:
                self.mark(leave_autocast, begun)
            return leave(region, *error)

        return end

    def _inference_mode(self) -> Callable[..., Any]:
        enter = torch.inference_mode.__enter__

        def begin(region: Any) -> Any:
            if not self.evaluating:
                what = "runs under torch.inference_mode(); use torch.no_grad(), which a graph can carry"
                raise self._error(what, tensors=False)
            return enter(region)

        return begin


class _Attributes:
    """Attributes of a model's modules before its forward runs, to find and undo what it writes."""

    def __init__(self, module: nn.Module) -> None:
        self._before = [
            (name, namespace, dict(namespace))
            for name, child in module.named_modules()
            for namespace in (vars(child), child._buffers, child._parameters)
        ]

    def restore(self) -> str:
        """Undo what was written; the attributes among it that a graph would lose, in words."""
        lost = []
        for name, namespace, before in self._before:
            for key, value in list(namespace.items()):
                if key.startswith("_tensor_constant") or value is before.get(key, self):
                    continue
                if _matters(value, before.get(key)):
                    lost.append(f"'{name}.{key}'" if name else f"'{key}'")
                if key in before:
                    namespace[key] = before[key]
                else:
                    del namespace[key]
        return ", ".join(lost)


def _matters(value: Any, before: Any) -> bool:
    """Whether a written attribute carries something out of forward: a tensor, or a count of calls."""
    numbers = (int, float)
    return isinstance(value, fx.Proxy) or (
        isinstance(value, numbers) and isinstance(before, numbers) and value != before
    )


def _is_plain(value: Any) -> bool:
    """Whether a value is Python's own (a number, a shape, a text), so that code may be told it outright."""
    if isinstance(value, tuple | list):
        return all(_is_plain(part) for part in value)
    return isinstance(value, bool | int | float | complex | str | torch.memory_format | torch.layout | slice)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _holds_proxy(values: Any) -> bool:
    found: list[Any] = []
    fx.node.map_aggregate(values, lambda value: found.append(value) if isinstance(value, fx.Proxy) else None)
    return bool(found)


def _valued(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, given the value of a proxy (a dtype) in its place."""

    def called(argument: Any) -> Any:
        if isinstance(argument, _Proxy):
            argument = argument.tracer.values[argument.node]
        return function(argument)

    return called


def _called(target: Any) -> str:
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))


def _drawn(who: str, library: str) -> str:
    return (
        f"the forward of {who} draws from {library} while it is read; the graph would repeat this one draw forever. "
        "Use a module that draws when it runs (timm's DropPath, torchvision's StochasticDepth, nn.Dropout)"
    )


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _within_checkpoint() -> bool:
    """Whether the module that is called is one that runs again in the backward pass."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not _CAPTURE:
        if frame.f_code.co_filename == _CHECKPOINT:
            return True
        frame = frame.f_back
    return False


_CAPTURE = _capture.__code__


def _user_place() -> str:
    """File and line of the model's code that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((_TORCH, _HERE)):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "an unknown place"
