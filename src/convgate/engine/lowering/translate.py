"""From an fx graph to simple operations, node by node; what has no native form becomes a step of PyTorch's."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache, cached_property
from typing import Any

from torch import Size, Tensor, fx, nn

from convgate.engine.lowering.draft import Draft, Expanded, GateSymbol, Symbol, Unsupported
from convgate.engine.lowering.facts import Facts, find_facts
from convgate.engine.lowering.functions import FUNCTIONS, IN_PLACE, METHODS, MODULES, PADS
from convgate.engine.lowering.kinds import NATIVE_KINDS
from convgate.engine.lowering.layers import settled
from convgate.engine.outside import Decision, Map, Mask, Of, Outside, Step, frozen
from convgate.engine.program import Decide, External, Gate, Pool, Slice
from convgate.engine.program import GateKind as NativeKind
from convgate.gated.gate_set import GATES, TRUNK
from convgate.gated.insert import mask_of
from convgate.gating import Gate as GateModule
from convgate.reading.contexts import CONTEXTS, enter_autocast
from convgate.reading.trace import read_again

__all__ = ["Source", "Translation", "translate"]


@dataclass(frozen=True, eq=False)
class Source:
    """The graph to translate: in `root`, of images [N, *image].

    `layer_names` maps a node to its line of the ledger; `gate_specs` a gate's name to its `GateSpec`. `together` are
    sets of nodes that only have a native form together: the parts of one convolution.
    """

    root: nn.Module
    graph: fx.Graph
    image: tuple[int, ...]
    layer_names: Mapping[str, str]
    gate_specs: Mapping[str, Any] = field(default_factory=dict)
    together: tuple[frozenset[str], ...] = ()

    @cached_property
    def facts(self) -> Facts:
        """Found when first asked for: a network all of which has a native form needs none."""
        return find_facts(self.root, self.graph, self.image)


@dataclass
class Translation:
    """What became of a graph.

    `images` is the symbol of the network's input. `outputs` are the symbols, and the names of steps of PyTorch's, that
    the network returns, `returns` how they are arranged (see `Program.returns`). `missing` maps the nodes without a
    native form to the reason, where PyTorch was not allowed; `outside` is what it computes.
    """

    draft: Draft
    images: Symbol
    outputs: list[Symbol | str] = field(default_factory=list)
    returns: Any = None
    missing: dict[str, str] = field(default_factory=dict)
    outside: Outside = field(default_factory=Outside)


def translate(source: Source, images: str, *, external: bool) -> Translation:
    """Translate a graph whose input is to have the name `images`; PyTorch may compute nodes if `external`."""
    forced: dict[str, str] = {}
    while True:
        try:
            return _translate(source, images, external, forced)
        except _Again as again:
            forced |= dict.fromkeys(again.nodes - forced.keys(), again.reason)


class _Again(Exception):  # noqa: N818 -- not an error
    """These nodes must be PyTorch's, too; begin again."""

    def __init__(self, nodes: Iterable[str], reason: str) -> None:
        super().__init__(reason)
        self.nodes, self.reason = set(nodes), reason


def _translate(source: Source, images: str, external: bool, forced: Mapping[str, str]) -> Translation:
    draft = Draft()
    done = Translation(draft, draft.new(images, source.image))
    done.outside.kinds = {name: spec.kind for name, spec in source.gate_specs.items()}
    walker = _Walker(source.root, draft, source.layer_names, source.gate_specs)
    partner = _Partner(source, done, walker, external, forced)
    placeholders = [node for node in source.graph.nodes if node.op == "placeholder"]
    walker.known = dict.fromkeys(placeholders) | {placeholders[0]: done.images}
    walker.partner = partner
    for node in source.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        try:
            if node.name in forced:
                raise Unsupported(forced[node.name])
            walker.step(node)
        except Unsupported as reason:
            if not external and not isinstance(reason, Beyond):
                done.missing[node.name] = f"{_what(source.root, node)}: {reason}"
            # Also where it is not allowed: what comes after it is looked at, so that all that is missing is named.
            partner.take(node, f"{_what(source.root, node)}: {reason}")
    if not done.missing:
        result = next(node for node in source.graph.nodes if node.op == "output").args[0]
        _return(done, walker, partner, result[0] if source.gate_specs else result, external)
    partner.finish()
    return done


def _return(done: Translation, walker: "_Walker", partner: "_Partner", result: Any, external: bool) -> None:
    """What the network returns: its tensors by number, in the structure that it gives them."""

    def arranged(part: Any) -> Any:
        if isinstance(part, fx.Node) and _is_record(part.target):
            # By field, as files and callers without its class can have it; `transformers` leaves fields of None out.
            sparse = issubclass(part.target, Mapping)  # type: ignore[arg-type]
            return {key: arranged(value) for key, value in part.kwargs.items() if value is not None or not sparse}
        if isinstance(part, fx.Node) and isinstance(part.target, type) and issubclass(part.target, _CONTAINERS):
            make: Any = tuple if part.target is Size else part.target  # as the model makes it, of nodes
            part = make(*part.args, **part.kwargs)
        if isinstance(part, fx.Node):
            known = walker.known[part]
            if not isinstance(known, Held) and not isinstance(known, Symbol | Expanded | GateSymbol):
                if isinstance(known, tuple | list | Mapping) and _tensors(known):
                    return arranged(known)
                return None if known is None else output(part)
            return output(part)
        if isinstance(part, Symbol | Expanded):
            return output(part)
        if isinstance(part, Mapping):
            return {str(key): arranged(value) for key, value in part.items()}
        if isinstance(part, tuple | list):
            return tuple(arranged(value) for value in part)
        return None if part is None else output(part)

    def output(part: Any) -> int:
        try:
            symbol = walker.symbol(part) if isinstance(part, fx.Node) else part
            walker.readable(symbol)
            if isinstance(symbol, Symbol):
                symbol = settled(done.draft, "output", symbol)
            done.draft.value_of(symbol)
            done.outputs.append(_as_one_of(done, symbol))
        except Unsupported as reason:
            if not external:
                done.missing["output"] = f"what the network returns: {reason}"
            done.outputs.append(partner.returned(part))
        return len(done.outputs) - 1

    done.returns = arranged(result)


def _as_one_of(done: Translation, symbol: Symbol) -> Symbol:
    """An output: a copy of it, where the same value is returned in another shape, too."""
    others = [o for o in done.outputs if isinstance(o, Symbol) and o.value == symbol.value]
    if any(len(other.shape) != len(symbol.shape) for other in others):
        copied = done.draft.new(f"{symbol.value} again", symbol.shape)
        done.draft.emit(Slice((symbol.value,), copied.value, 0))
        return copied
    return symbol


_CONTAINERS = (dict, tuple, list)


def _is_record(target: Any) -> bool:
    """Whether a node makes an instance of a dataclass, of keyword arguments."""
    return isinstance(target, type) and is_dataclass(target)


def _tensors(result: Any) -> list[Symbol | Expanded]:
    if isinstance(result, Symbol | Expanded):
        return [result]
    parts = result.values() if isinstance(result, Mapping) else result if isinstance(result, tuple | list) else ()
    return [symbol for part in parts for symbol in _tensors(part)]


def _replaced(symbols: Any, old: str, new: str) -> Any:
    """The symbols of `old` as symbols of `new`."""
    if isinstance(symbols, Symbol) and symbols.value == old:
        return replace(symbols, value=new)
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


class Beyond(Unsupported):
    """What is read lies with PyTorch, and not in the form of a value of a program."""


@dataclass(frozen=True)
class Held:
    """The result of a node that PyTorch computes; of a gate's call, which gate."""

    node: str
    gate: str = ""


class _Partner:
    """What PyTorch computes: which nodes, and how their results come into the program and the program's into them."""

    def __init__(
        self, source: Source, done: Translation, walker: "_Walker", external: bool, forced: Mapping[str, str]
    ) -> None:
        self.source, self.draft, self.outside, self.walker = source, done.draft, done.outside, walker
        self.external, self.forced = external, forced
        self.copies: dict[int, Any] = {}  # as of copy.deepcopy, so that what is shared stays so
        self.order = {node.name: number for number, node in enumerate(source.graph.nodes)}

    def take(self, node: fx.Node, reason: str) -> None:
        """A node becomes PyTorch's."""
        decides: tuple[str, ...] = ()
        if self.external:
            self._alone(node)
            decides = self._decided(node)
            step = self._step(node, changes=bool(self.source.facts.changed[node.name]))
            self._emit(node.name, step, decides)
        else:
            self.draft.emit(External((), "", node.name))
        self.outside.reasons[node.name] = reason
        line = self.source.layer_names.get(node.name, f"gates.{decides[0]}" if decides else None)
        if line is not None:
            self.outside.lines[node.name] = line
        self.walker.known[node] = Held(node.name, *decides)

    def _emit(self, name: str, step: Step, decides: tuple[str, ...] = ()) -> None:
        self.outside.steps[name] = step
        parts: list[Any] = []
        fx.node.map_aggregate((step.args, dict(step.kwargs)), parts.append)
        inputs = tuple(dict.fromkeys(part.value for part in parts if isinstance(part, Map)))
        gates = tuple(dict.fromkeys(part.gate for part in parts if isinstance(part, Mask | Decision)))
        self.draft.emit(External(inputs, "", name, gates, decides))

    def arrive(self, held: Held) -> Symbol | GateSymbol:
        """A result of PyTorch's as a value of the program."""
        if held.gate:
            return GateSymbol(held.gate)
        name, facts = held.node, self.source.facts
        if name not in facts.shapes or len(facts.shapes[name]) not in (1, 3):
            raise Beyond("it reads what PyTorch computes, which is no batch of maps or vectors")
        if any(facts.changed[later] & facts.memory[name] for later in self._between(name)):
            raise Beyond("it reads a tensor of PyTorch's that was written to in place")
        number = next(n for n, op in enumerate(self.draft.operations) if _is_of(op, name))
        shape = facts.shapes[name]
        if not self.draft.operations[number].output:
            self.draft.update(number, output=self.draft.new(name, shape).value)
        return Symbol(self.draft.operations[number].output, shape)

    def owns(self, node: fx.Node) -> bool:
        """Does the node write in place to what PyTorch computed?"""
        if not self.outside.reasons or not self.external:
            return False
        facts = self.source.facts
        held = {storage for name in self.outside.reasons for storage in facts.memory[name]}
        return bool(facts.changed[node.name] & held)

    def returned(self, part: Any) -> str:
        """The name under which the network returns a part of its result that is no value of a program."""
        if isinstance(part, fx.Node) and isinstance(self.walker.known[part], Held):
            return part.name
        name = f"output {len(self.outside.steps)}"
        if self.external:
            self._emit(name, Step(_itself, (self._reference(part),), {}))
        return name

    def finish(self) -> None:
        """What is left to be said once all nodes are known."""
        if self.outside.reasons and self.external:
            facts = self.source.facts
            written = {storage for name in self.outside.reasons for storage in facts.changed[name]}
            self.outside.copied = frozenset(n for n in self.outside.reasons if facts.memory[n] & written)

    def _alone(self, node: fx.Node) -> None:
        """Nothing that the program computes may share memory with what PyTorch writes to, or belong to the node."""
        if not self.external:
            return
        for group in self.source.together:
            if node.name in group and not group <= self.forced.keys() | {node.name}:
                raise _Again(group, "a part of this convolution has no native form")
        facts = self.source.facts
        stale = {
            argument.name
            for argument in node.all_input_nodes
            if any(symbol.value in self.walker.stale for symbol in _tensors(self.walker.known[argument]))
        }
        changed, now = facts.changed[node.name], self.order[node.name]
        touched = {n for n, own in facts.memory.items() if own & changed} - {node.name}
        later = {user for n in self._nodes(touched) for user in n.users if self.order[user.name] > now}
        if later:
            stale |= touched
        if stale:
            # Of the images, which PyTorch does not compute, whoever reads them from here on.
            nodes = {n.name for n in self._nodes(facts.sharing(stale)) if n.op in _COMPUTING}
            nodes |= {user.name for user in later if user.op in _COMPUTING}
            if nodes - {node.name} - self.forced.keys() - self.outside.reasons.keys():
                raise _Again(nodes, "it shares memory with what PyTorch writes to in place")

    def _nodes(self, names: set[str]) -> list[fx.Node]:
        return [node for node in self.source.graph.nodes if node.name in names]

    def _between(self, name: str) -> list[str]:
        """The nodes of PyTorch's so far after that one."""
        return [other for other in self.outside.reasons if self.order[other] > self.order[name]]

    def _decided(self, node: fx.Node) -> tuple[str, ...]:
        """The gate that this call of PyTorch's decides, if it is one."""
        called = self.source.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(called, GateModule):
            return ()
        name = str(node.target).removeprefix(f"{GATES}.")
        _feature, given, *_ = node.args
        assert isinstance(given, fx.Node)
        self.outside.given[given.name] = name
        spec = self.source.gate_specs[name]
        self.draft.gates[name] = Gate(name, NATIVE_KINDS[type(spec.kind)], spec.shape, spec.group)
        return (name,)

    def _step(self, node: fx.Node, *, asks: bool = False, changes: bool = False) -> Step:
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), self._reference)
        call: Any = node.target
        if node.op == "call_module":
            call = frozen(self.source.root.get_submodule(str(node.target)), self.copies)
        return Step(call, args, kwargs, asks, changes)

    def _reference(self, part: Any) -> Any:
        """What stands for a node, or a symbol, in the arguments of a step."""
        known = self.walker.known[part] if isinstance(part, fx.Node) else part
        if isinstance(known, Held):
            return Of(known.node)
        if isinstance(known, GateSymbol):
            return (Mask if isinstance(part, fx.Node) and part.target is mask_of else Decision)(known.gate)
        if isinstance(known, Expanded):
            return Map(known.value, known.vector.shape, over=known.over)
        if isinstance(known, Symbol):
            return Map(known.value, known.shape, known.padding, last=known.last)
        if not isinstance(part, fx.Node):
            return known
        if isinstance(known, tuple | list | Mapping) and _tensors(known):
            return fx.node.map_aggregate(known, self._reference)
        self._light(part, known)
        return Of(part.name)

    def _light(self, node: fx.Node, known: Any) -> None:
        """A node that is no tensor of the program's: a constant, or something that follows from shapes."""
        steps, constants = self.outside.steps, self.outside.constants
        if node.op == "placeholder" or node.name in steps or node.name in constants:
            return
        if self._is_constant(node):
            constants[node.name] = _frozen_constant(known, self.copies)
        else:
            steps[node.name] = self._step(node, asks=True)

    def _is_constant(self, node: fx.Node) -> bool:
        seen, todo = set(), [node]
        while todo:
            at = todo.pop()
            if at.op == "placeholder" or self.source.facts.changed[at.name]:
                return False
            seen.add(at)
            todo += [argument for argument in at.all_input_nodes if argument not in seen]
        return True


_COMPUTING = ("call_module", "call_function", "call_method")


def _itself(value: Any) -> Any:
    return value


def _frozen_constant(value: Any, copies: dict[int, Any]) -> Any:
    if isinstance(value, nn.Module):
        return frozen(value, copies)
    if isinstance(value, Tensor):
        value = value.detach().clone().cpu()
        return value.float() if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(_frozen_constant(part, copies) for part in value)
    return copy.deepcopy(value)


def _is_of(operation: Any, name: str) -> bool:
    return isinstance(operation, External) and operation.target == name


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
        self.partner: _Partner | None = None
        self.name = ""

    def step(self, node: fx.Node) -> None:
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
        if node.target in CONTEXTS:
            if node.target is enter_autocast and node.args[2]:
                raise Unsupported("the engine computes a region of torch.autocast in float32, not as the model does")
            return None
        if not _has_symbols((args, kwargs)):
            return _evaluate(node, args, kwargs)
        if _is_record(node.target):
            return dict(kwargs)
        if isinstance(node.target, type) and issubclass(node.target, _CONTAINERS):
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
    except Exception as error:  # noqa: BLE001 -- whatever its code raises
        reason = error
    try:
        (x,) = args
        if isinstance(x, Symbol) and len(x.shape) == 3 and not x.last and not any(x.padding):
            return read_again(module, (1, *x.shape)).evaluation
    except Exception as error:  # noqa: BLE001 -- whatever its code raises
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


def _has_symbols(values: Any) -> bool:
    if isinstance(values, tuple | list):
        return any(_has_symbols(value) for value in values)
    if isinstance(values, Mapping):
        return any(_has_symbols(value) for value in values.values())
    return isinstance(values, Symbol | Expanded | GateSymbol)
