"""From an fx graph to simple operations, node by node."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from convgate.engine.lowering.draft import Draft, Expanded, GateSymbol, Symbol, Unsupported
from convgate.engine.lowering.functions import FUNCTIONS, IN_PLACE, METHODS, MODULES
from convgate.engine.lowering.kinds import NATIVE_KINDS
from convgate.engine.program import Decide, External, Gate, Pool, Slice
from convgate.gated.gate_set import GATES, TRUNK
from convgate.gated.insert import mask_of
from convgate.gating import Gate as GateModule

__all__ = ["Translation", "translate"]


@dataclass
class Translation:
    """What became of a graph: the draft, the symbols of its outputs, and what had no native form.

    `externals` maps an `External` operation's target to the function on tensors [N, ...] that computes it; `missing`
    maps the nodes that had no native form, and were not allowed to be external, to the reason.
    """

    draft: Draft
    outputs: list[Symbol] = field(default_factory=list)
    externals: dict[str, Callable[..., Tensor]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def translate(
    root: nn.Module,
    graph: fx.Graph,
    image: Symbol,
    draft: Draft,
    *,
    layer_names: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    gate_specs: Mapping[str, Any],
    external: bool,
) -> Translation:
    """Translate `graph`, whose first placeholder is `image`.

    `layer_names` maps a node to its line of the ledger; `shapes` to its output's shape with the batch, for nodes that
    become external; `gate_specs` a gate's name to its `GateSpec`.
    """
    done = Translation(draft)
    walker = _Walker(root, draft, layer_names, gate_specs)
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    walker.known = dict.fromkeys(placeholders) | {placeholders[0]: image}
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if any(argument in walker.lost for argument in node.all_input_nodes):
            walker.lost.add(node)
            continue
        try:
            walker.step(node)
        except Unsupported as reason:
            possible = _can_be_external(walker, node, shapes)
            if not (external and possible):
                done.missing[node.name] = f"{_what(root, node)}: {reason}"
            if possible:
                # Also where it is not allowed: what comes after it is looked at, so that all that is missing is named.
                done.externals[node.name] = walker.external(node, shapes[node.name])
            else:
                walker.lost.add(node)
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if not done.missing:
        if gate_specs:
            result = result[0]
        returned = _tensors(fx.node.map_arg(result, walker.known.__getitem__))
        done.outputs = [symbol for symbol in returned if isinstance(symbol, Symbol)]
        try:
            for symbol in returned:
                walker.readable(symbol)
                draft.value_of(symbol)
        except Unsupported as reason:
            done.missing["output"] = f"what the network returns: {reason}"
    return done


def _tensors(result: Any) -> list[Symbol | Expanded]:
    if isinstance(result, Symbol | Expanded):
        return [result]
    parts = result.values() if isinstance(result, Mapping) else result if isinstance(result, tuple | list) else ()
    return [symbol for part in parts for symbol in _tensors(part)]


def _replaced(symbols: Any, old: str, new: str) -> Any:
    """The symbols of `old` as symbols of `new`."""
    if isinstance(symbols, Symbol) and symbols.value == old:
        return Symbol(new, symbols.shape, symbols.padding)
    if isinstance(symbols, Expanded):
        return Expanded(_replaced(symbols.vector, old, new), symbols.over)
    if isinstance(symbols, tuple | list):
        return type(symbols)(_replaced(symbol, old, new) for symbol in symbols)
    return symbols


def _overlapping(draft: Draft, value: str) -> set[str]:
    """The values that are parts of `value`, of which it is a part, or that are other parts of that."""
    parts = [(op.inputs[0], op.output) for op in draft.operations if isinstance(op, Slice | Pool) and _is_view(op)]
    parts += draft.views
    found = {value}
    while True:
        more = found | {name for pair in parts if found.intersection(pair) for name in pair}
        if more == found:
            return found
        found = more


def _is_view(operation: Slice | Pool) -> bool:
    return isinstance(operation, Slice) or operation.kernel == (1, 1)


def _what(root: nn.Module, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))


def _can_be_external(walker: "_Walker", node: fx.Node, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    tensors = [walker.known.get(argument) for argument in node.all_input_nodes]
    shape = shapes.get(node.name, ())
    is_map = len(shape) in (2, 4) and shape[0] == 1
    known = all(isinstance(t, Symbol | Expanded) and t.value not in walker.stale for t in tensors)
    padded = any(isinstance(t, Symbol) and any(t.padding) for t in tensors)
    return is_map and bool(tensors) and known and not padded


class _Walker:
    """Knows what each node became."""

    def __init__(
        self, root: nn.Module, draft: Draft, layer_names: Mapping[str, str], gate_specs: Mapping[str, Any]
    ) -> None:
        self.root, self.draft = root, draft
        self.layer_names, self.gate_specs = layer_names, gate_specs
        self.known: dict[fx.Node, Any] = {}
        self.lost: set[fx.Node] = set()
        self.stale: set[str] = set()
        self.outer: _Walker | None = None
        self.name = ""

    def step(self, node: fx.Node) -> None:
        self.name = self.layer_names.get(node.name, node.name)
        args = fx.node.map_arg(node.args, self.known.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, self.known.__getitem__)
        tried = self.draft.snapshot()
        try:
            for argument in node.all_input_nodes:
                self.readable(self.known[argument])
            result = self._call(node, args, kwargs)
        except Unsupported:
            self.draft.adopt(tried)
            raise
        self.known[node] = result
        if self._overwrites(node) and isinstance(args[0], Symbol) and isinstance(result, Symbol):
            self._overwrite(args[0].value, result.value)

    def _overwrite(self, old: str, new: str) -> None:
        """Whoever reads `old` from here on reads `new`; of what shares memory with a part of it nothing is known."""
        if old == new:
            return
        walker: _Walker | None = self
        while walker is not None:
            walker.known = {node: _replaced(symbol, old, new) for node, symbol in walker.known.items()}
            walker.stale |= _overlapping(self.draft, old) - {old, new}
            walker = walker.outer

    def readable(self, symbols: Any) -> None:
        """Raises `Unsupported` where one of the symbols is of a value that was changed in place through another."""
        if any(symbol.value in self.stale for symbol in _tensors(symbols)):
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
        if not _has_symbols((args, kwargs)):
            return _evaluate(node, args, kwargs)
        handlers: Mapping[Any, Any] = METHODS if node.op == "call_method" else FUNCTIONS
        if node.target not in handlers:
            raise Unsupported("no native form")
        try:
            return handlers[node.target](self, *args, **kwargs)
        except TypeError as error:
            raise Unsupported(f"called in a way that is not known ({error})") from None

    def _module(self, module: nn.Module, target: str, args: Any, kwargs: Any) -> Any:
        if module._forward_hooks or module._forward_pre_hooks:
            raise Unsupported("it has hooks")
        if isinstance(module, GateModule):
            return self._gate(target.removeprefix(f"{GATES}."), module, args[0])
        if target == TRUNK:
            self.name = "gates.trunk"  # its line of the ledger
        if type(module) in MODULES and not kwargs:
            return MODULES[type(module)](self, module, *args)
        return self._look_into(module, args, kwargs)

    def _look_into(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A module that is not known by its class: what its forward does, step by step, under this call's name."""
        try:
            graph = fx.Tracer().trace(module)
        except Exception as error:  # noqa: BLE001 -- whatever its code raises: it has no native form
            raise Unsupported(f"no native form, and it cannot be looked into ({error})") from None
        inner = _Walker(module, self.draft, {}, {})
        inner.outer, inner.stale = self, self.stale
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
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
        shape = decided.offset_shape
        if any(own not in (1, all_) for own, all_ in zip(gate.offset.shape, shape, strict=True)):
            raise Unsupported(f"an offset of shape {list(gate.offset.shape)}")
        offset = self.draft.array(f"{self.name}.offset", gate.offset.expand(shape))
        self.draft.emit(Decide((logits.value,), name, offset, strict=gate.closed_at_zero))
        return GateSymbol(name)

    def external(self, node: fx.Node, shape: tuple[int, ...]) -> Callable[..., Tensor]:
        """An operation that PyTorch computes, and the function that does."""
        symbols = [self.known[argument] for argument in node.all_input_nodes]
        out = self.draft.new(node.name, tuple(shape[1:]))
        self.draft.emit(External(tuple(s.value for s in symbols), out.value, node.name))
        self.known[node] = out
        return _Call(self.root, node, symbols)


class _Call:
    """One node as a function of its tensor arguments."""

    def __init__(self, root: nn.Module, node: fx.Node, arguments: list[Symbol | Expanded]) -> None:
        # A copy, in evaluation mode: the network may be trained on.
        called = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        self.module = copy.deepcopy(called).eval() if called is not None else None
        self.node, self.arguments = node, arguments

    def __call__(self, *tensors: Tensor) -> Tensor:
        shaped = (_shaped(tensor, argument) for tensor, argument in zip(tensors, self.arguments, strict=True))
        known = dict(zip(self.node.all_input_nodes, shaped, strict=True))
        args = fx.node.map_arg(self.node.args, known.__getitem__)
        kwargs = fx.node.map_arg(self.node.kwargs, known.__getitem__)
        with torch.no_grad():
            return self.module(*args, **kwargs) if self.module is not None else _evaluate(self.node, args, kwargs)


def _shaped(tensor: Tensor, argument: Symbol | Expanded) -> Tensor:
    """A value [N, C, H, W] as the tensor that the network has there."""
    if isinstance(argument, Expanded):
        return _shaped(tensor, argument.vector).expand(-1, *argument.over)
    return tensor.reshape(len(tensor), *argument.shape)


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


def _has_symbols(values: Any) -> bool:
    if isinstance(values, tuple | list):
        return any(_has_symbols(value) for value in values)
    if isinstance(values, Mapping):
        return any(_has_symbols(value) for value in values.values())
    return isinstance(values, Symbol | Expanded | GateSymbol)
