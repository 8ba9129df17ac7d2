"""Node by node from a graph to operations of a program."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any

from torch import fx, nn

from convgate.engine.lowering.aliases import has_symbols, overlapping, replaced, tensors
from convgate.engine.lowering.draft import Draft, GateSymbol, Symbol, Unsupported
from convgate.engine.lowering.functions import FUNCTIONS, IN_PLACE, METHODS, MODULES, PADS
from convgate.engine.lowering.kinds import NATIVE_KINDS
from convgate.engine.lowering.layers import settled
from convgate.engine.lowering.partner import Held, Partner
from convgate.engine.program import Decide, Gate
from convgate.engine.program import GateKind as NativeKind
from convgate.gated.gate_set import GATES, TRUNK
from convgate.gated.insert import mask_of
from convgate.gating import Gate as GateModule
from convgate.reading.contexts import CONTEXTS, enter_autocast
from convgate.reading.trace import read_again
from convgate.reading.values import writable

__all__ = ["CONTAINERS", "Walker", "is_record"]

CONTAINERS = (dict, tuple, list)
"""What a network's code may gather values in."""


def is_record(target: Any) -> bool:
    """Whether a node makes an instance of a dataclass, of keyword arguments."""
    return isinstance(target, type) and is_dataclass(target)


class Walker:
    """Translates one node after the other, and knows what each became: a symbol, a plain value, a structure of them."""

    def __init__(
        self, root: nn.Module, draft: Draft, layer_names: Mapping[str, str], gate_specs: Mapping[str, Any]
    ) -> None:
        self.root, self.draft = root, draft
        self.layer_names, self.gate_specs = layer_names, gate_specs
        self.known: dict[fx.Node, Any] = {}
        self.lost: set[fx.Node] = set()
        self.stale: set[str] = set()
        self.outer: Walker | None = None
        self.partner: Partner | None = None
        self.name = ""

    @property
    def external(self) -> bool:
        """See `Context`."""
        if self.outer is not None:
            return self.outer.external
        return self.partner is not None and self.partner.external

    def step(self, node: fx.Node) -> None:
        """Translate one node: to operations of the program, or, where there are none, to a step of PyTorch's."""
        self.name = self.layer_names.get(node.name, node.name)
        tried = self.draft.snapshot()
        try:
            if self.partner is not None and self.partner.owns(node):
                raise Unsupported("it writes in place to what PyTorch computes")
            args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), self.symbol)
            for argument in node.all_input_nodes:
                self.readable(self.known[argument])
            result = self._call(node, args, kwargs)
        except Unsupported:
            self.draft.adopt(tried)
            raise
        self.known[node] = result
        if self._overwrites(node) and isinstance(args[0], Symbol) and isinstance(result, Symbol):
            self._overwrite(args[0].value, result.value)

    def symbol(self, node: fx.Node) -> Any:
        """What a node became; of what PyTorch computes, the value that it is written to."""
        known = self.known[node]
        if isinstance(known, Held):
            assert self.partner is not None
            return self.partner.arrive(known)
        return known

    def _overwrite(self, old: str, new: str) -> None:
        """What reads `old` from here on reads `new`; values that share memory with a part of it become unknown."""
        if old == new:
            return
        walker: Walker | None = self
        while walker is not None:
            walker.known = {node: replaced(symbol, old, new) for node, symbol in walker.known.items()}
            walker.stale |= overlapping(self.draft, old) - {old, new}
            walker = walker.outer

    def readable(self, symbols: Any) -> None:
        """Raises `Unsupported` where one of the symbols is of a value that was changed in place through another."""
        if any(symbol.value in self.stale for symbol in tensors(symbols)):
            raise Unsupported("it reads a tensor of which an operation in place changed a part")

    def _overwrites(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(getattr(self.root.get_submodule(str(node.target)), "inplace", False))
        return node.target in IN_PLACE or bool(node.kwargs.get("inplace", False))

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "get_attr":
            return _attribute(self.root, str(node.target))
        if node.op == "call_module":
            return self._module(self.root.get_submodule(str(node.target)), str(node.target), args, kwargs)
        if node.target is mask_of:
            return args[0]
        if node.target in CONTEXTS:
            if node.target is enter_autocast and node.args[2]:
                raise Unsupported("the engine computes a region of torch.autocast in float32, not as the model does")
            return None
        if not has_symbols((args, kwargs)):
            return _evaluate(node, args, kwargs)
        if is_record(node.target):
            return dict(kwargs)
        if isinstance(node.target, type) and issubclass(node.target, CONTAINERS):
            return _evaluate(node, args, kwargs)
        handlers: Mapping[Any, Any] = METHODS if node.op == "call_method" else FUNCTIONS
        if node.target not in handlers:
            raise Unsupported("no native form")
        if node.target not in PADS:
            args, kwargs = self._settled(args), self._settled(kwargs)
        return _apply(handlers[node.target], self, *args, **kwargs)

    def _settled(self, symbols: Any) -> Any:
        """With the zeros written out that a convolution would put around them itself."""
        return fx.node.map_aggregate(
            symbols, lambda s: settled(self.draft, self.name, s) if isinstance(s, Symbol) else s
        )

    def _module(self, module: nn.Module, target: str, args: Any, kwargs: Any) -> Any:
        if module._forward_hooks or module._forward_pre_hooks:
            raise Unsupported("it has hooks")
        if isinstance(module, GateModule):
            return self._gate(target.removeprefix(f"{GATES}."), module, args[0])
        if target == TRUNK:
            self.name = "gates.trunk"  # its line of the ledger
        if type(module) in MODULES and not kwargs:
            if type(module) not in PADS:
                args = self._settled(args)
            return _apply(MODULES[type(module)], self, module, *args)
        return self._look_into(module, args, kwargs)

    def _look_into(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A module that is not known by its class: what its forward does, step by step, under this call's name."""
        graph = _looked_into(module, args)
        inner = Walker(module, self.draft, {}, {})
        inner.outer, inner.stale = self, self.stale
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
        # Lists of its own: its code may append to them.
        args = writable(args)
        values = dict(zip((str(node.target) for node in inputs), args, strict=False)) | kwargs
        for node in inputs:
            if node.target not in values and not node.args:
                raise Unsupported(f"no native form, and its input '{node.target}' is not given")
            inner.known[node] = values.get(str(node.target), node.args[0] if node.args else None)
        for node in graph.nodes:
            if node.op == "output":
                return fx.node.map_arg(node.args[0], inner.known.__getitem__)
            if node.op != "placeholder":
                # Convolutions inside count on the line of the module that holds them.
                inner.layer_names = {node.name: self.name}
                inner.step(node)
        raise AssertionError("a graph without an output")

    def _gate(self, name: str, gate: GateModule, pooled: Symbol) -> GateSymbol:
        spec = self.gate_specs[name]
        self.name = f"gates.{name}"
        logits = self._module(gate.head, f"{self.name}.head", (pooled,), {})
        decided = Gate(name, NATIVE_KINDS[type(spec.kind)], spec.shape, spec.group)
        self.draft.gates[name] = decided
        everywhere = decided.kind == NativeKind.SPATIAL and tuple(gate.offset.shape) == (1, 1, 1)
        shape = (1, 1, 1) if everywhere else decided.offset_shape
        if any(own not in (1, all_) for own, all_ in zip(gate.offset.shape, shape, strict=True)):
            raise Unsupported(f"an offset of shape {list(gate.offset.shape)}")
        offset = self.draft.array(f"{self.name}.offset", gate.offset.expand(shape))
        self.draft.emit(Decide((logits.value,), name, offset, strict=gate.closed_at_zero))
        return GateSymbol(name)


def _looked_into(module: nn.Module, args: Any) -> fx.Graph:
    """A module's own graph; where its code asks for its input's size, that for this size."""
    try:
        return fx.Tracer().trace(module)
    except Exception as error:  # noqa: BLE001 -- its code may raise anything
        reason = error
    try:
        (x,) = args
        if isinstance(x, Symbol) and len(x.shape) == 3 and not x.last and not any(x.padding):
            return read_again(module, (1, *x.shape)).evaluation
    except Exception as error:  # noqa: BLE001 -- its code may raise anything
        reason = error
    raise Unsupported(f"no native form, and it cannot be looked into ({reason})")


def _apply(handler: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        _signature(handler).bind(*args, **kwargs)
    except TypeError as error:
        raise Unsupported(f"called in a way that is not known ({error})") from None
    return handler(*args, **kwargs)


_signature = cache(inspect.signature)


def _evaluate(node: fx.Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _attribute(root: nn.Module, target: str) -> Any:
    value: Any = root
    for part in target.split("."):
        value = getattr(value, part)
    return value
