"""Record a model's forward: which modules are leaves, and what the model's code sees of each result."""

import inspect
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from threading import get_ident
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from convgate.errors import TraceError
from convgate.reading.answers import Answers
from convgate.reading.proxies import Proxy, Shape, holds_proxy, is_plain
from convgate.reading.randomness import random_state, who_drew
from convgate.reading.refusals import data_dependent, drawn, fails, refused, within_checkpoint
from convgate.reading.values import Values
from convgate.reading.wrappers import inside

__all__ = ["COUNTED_MODULES", "Tracer"]

COUNTED_MODULES = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase)


class Tracer(fx.Tracer):
    """Records for the number of images of `answers`, and for any number as far as it can.

    `told_batch` is the error of the place where the code was told the number of images, or None.

    Leaves: what torch.nn defines, every convolution or linear layer, and modules with neither inside.

    The last rule keeps norm-activation layers, drop path and the like whole, so that what they do with
    `self.training` is decided when they run, not when they are captured.
    """

    proxy_buffer_attributes = True  # A buffer that changes after capturing must not be frozen into the graph.

    def __init__(self, answers: Answers, *, watching: bool = False) -> None:
        super().__init__()
        self._answers, self._watching = answers, watching
        self._thread = get_ident()
        self.told_batch: TraceError | None = None

    @property
    def values(self) -> Values:
        """Of each node that was recorded."""
        return self._answers.values

    @property
    def evaluating(self) -> bool:
        """Whether an operation must not be recorded: it is being computed on fake tensors, or by another thread.

        What is patched for the time of capturing is patched for all threads.
        """
        return self._answers.evaluating or get_ident() != self._thread

    @property
    def batch_is_fixed(self) -> bool:
        """Whether what follows is recorded for one number of images."""
        return self._answers.fixed

    # -- capturing -------------------------------------------------------------------------------------------------

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Run the forward of `root` and record it."""
        self._names = {id(p): name for name, p in root.named_parameters()}
        self._names |= {id(b): name for name, b in root.named_buffers()}
        return super().trace(root, concrete_args)

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
        # A value of that name, e.g. a parameter's, would hide the network in the code that is made of the graph.
        self.graph._graph_namespace.create_name("self", None)
        node = fx.Tracer.create_node(self, "placeholder", name, (), {})
        self.values.add(node, self._answers.evaluate("placeholder", name, (), {}))

        def forward(*inputs: Any) -> Any:
            return self._returned(root_fn(*inputs))

        return forward, [self.root, self.proxy(node)]

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
        if (wrapped := inside(m)) is not None:
            return wrapped(*args, **kwargs)  # Its layers keep their names.
        if within_checkpoint(fx.Tracer.trace.__code__):
            self.refuse(
                f"runs {type(m).__name__} '{self.path_of_module(m)}' under torch.utils.checkpoint, which a graph would "
                "drop. Switch gradient checkpointing off before gating (timm: model.set_grad_checkpointing(False))"
            )
        if not self._watching:
            return super().call_module(m, forward, args, kwargs)
        before = random_state()
        output = super().call_module(m, forward, args, kwargs)
        library = who_drew(before)
        if library:
            raise drawn(f"{type(m).__name__} '{self.path_of_module(m)}'", library)
        return output

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        name = self._names.get(id(attr_val)) if isinstance(attr_val, Tensor) and not self.evaluating else None
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def proxy(self, node: fx.Node) -> Proxy:
        return Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor) and id(a) in self._names:
            return self.create_node("get_attr", self._names[id(a)], (), {})
        if isinstance(a, Tensor) and a not in self.tensor_attrs and (known := self._constant_like(a)):
            self.tensor_attrs[a] = known
        if isinstance(a, Shape):
            return tuple(self.create_arg(length) for length in a)
        if is_dataclass(a) and not isinstance(a, type):
            parts = {field.name: self.create_arg(getattr(a, field.name)) for field in fields(a) if field.init}
            return self.create_node("call_function", type(a), (), parts)
        if isinstance(a, dict) and type(a) not in (dict, defaultdict):
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

    def _returned(self, output: Any) -> Any:
        """What the model returns, with shapes in it as `torch.Size`, which elsewhere a tuple may stand for."""
        if isinstance(output, Shape | torch.Size):
            lengths = tuple(self.create_arg(length) for length in output)
            return self.proxy(self.create_node("call_function", torch.Size, (lengths,), {}))
        if type(output) in (tuple, list):
            return type(output)(self._returned(part) for part in output)
        return {key: self._returned(part) for key, part in output.items()} if type(output) is dict else output

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *others: Any, **named: Any) -> fx.Node:
        """Record a node that is an argument: a parameter, or a container of a special type."""
        node = super().create_node(kind, target, args, kwargs, *others, **named)
        if kind != "output":
            self.values.add(node, self._evaluated(kind, target, args, kwargs))
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
        written = args[0] if args and isinstance(args[0], Proxy) else None
        before = self._version(written)
        args, kwargs = self.create_arg(args), self.create_arg(kwargs)
        value = self._evaluated(kind, target, args, kwargs)
        if is_plain(value) and self._answers.is_for_any_batch(value, self.graph, kind, target, args, kwargs):
            return value
        node = fx.Tracer.create_node(self, kind, target, args, kwargs, name, type_expr)
        self.values.add(node, value)
        if written is not None and value is self.values[written.node] and self._version(written) != before:
            written.node = node  # What reads this tensor later, after `x.mul_(2)`, reads what was written.
        return self._present(node, value)

    def _version(self, proxy: Proxy | None) -> int | None:
        """How often the tensor of a proxy was written in place; None for what is not counted (inference tensors)."""
        value = None if proxy is None else self.values[proxy.node]
        return value._version if isinstance(value, Tensor) and not value.is_inference() else None

    def mark(self, function: Callable[..., Any], *args: Any) -> Any:
        """Record the beginning or the end of a region; the proxy of what `function` will return."""
        node = fx.Tracer.create_node(self, "call_function", function, self.create_arg(args), {})
        self.values.add(node, None)
        return self.proxy(node)

    # -- what the model's code sees --------------------------------------------------------------------------------

    def attribute(self, proxy: Proxy, name: str) -> Any:
        """What `proxy.name` is in the graph: a method to call, or a value that is read when the graph runs."""
        found = getattr(self.values[proxy.node], name)  # AttributeError where the tensor has none
        if name in ("requires_grad", "grad", "grad_fn", "is_leaf"):
            self._refuse(proxy, f"asks for '{name}' of a tensor, which depends on how the network will be run")
        if callable(found) and not isinstance(found, Tensor | torch.dtype):
            return fx.proxy.Attribute(proxy, name)
        return self.create_proxy("call_function", getattr, (proxy, name), {})

    def ask(self, proxy: Proxy, what: str, convert: Callable[[Any], Any]) -> Any:
        """Answer a question of Python (`len`, `int`, `float`, and `bool` if it is the same for every batch).

        A number that depends on the batch is told, and from then on the graph is one for this number of images; see
        `convgate.reading.batches`.
        """
        value = self.values[proxy.node]
        if isinstance(value, Tensor) and convert is not len:
            self._refuse(proxy, f"asks a tensor for {what}: a decision on values that are not known yet")
        answer = convert(value)
        if not self._answers.agree(answer, self.graph, lambda values: convert(values[proxy.node]), often=True):
            what = f"asks for {what}, which depends on the batch size, and a graph is for any"
            if convert is bool:
                self._refuse(proxy, f"{what}. Write it without a decision on x.shape[0]")
            # Whether the code makes of it what a graph can carry is seen when all is recorded.
            remedy = "Write it with x.shape[0] as it is, without a loop over images or a decision on their number"
            self.told_batch = refused(self, f"{what}. {remedy}", tensors=False)
            self._answers.fixed = True
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
            if not self._answers.agree(len(value), self.graph, lambda values: len(values[node]), often=False):
                return proxy
            items = [self._part(proxy, index) for index in range(len(value))]
            if isinstance(value, torch.Size):
                return Shape(items) if holds_proxy(items) else torch.Size(items)
            if hasattr(value, "_fields"):
                return type(value)(*items)
            return type(value)(items)
        return None if value is None else proxy

    def _part(self, proxy: Proxy, key: Any) -> Any:
        return self.create_proxy("call_function", operator.getitem, (proxy, key), {})

    def _evaluated(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        try:
            return self._answers.evaluate(kind, target, args, kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise data_dependent(self, target) from error
        except Exception as error:
            raise fails(self, self.values, kind, target, args, kwargs, error) from error

    def refuse(self, what: str, *, tensors: bool = False) -> NoReturn:
        """Raise the error that the running line of the model's code does `what`."""
        raise refused(self, what, tensors=tensors)

    def _refuse(self, proxy: Proxy, what: str) -> NoReturn:
        self.refuse(what, tensors=isinstance(self.values[proxy.node], Tensor))
