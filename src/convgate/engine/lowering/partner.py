"""What PyTorch computes of a graph, and how its results and those of the program come to each other."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from convgate.engine.lowering.aliases import tensors
from convgate.engine.lowering.draft import Expanded, GateSymbol, Symbol, Unsupported
from convgate.engine.lowering.kinds import NATIVE_KINDS
from convgate.engine.lowering.source import Source, Translation
from convgate.engine.outside import Decision, Map, Mask, Of, Step, frozen
from convgate.engine.program import External, Gate
from convgate.gated.gate_set import GATES
from convgate.gated.insert import mask_of
from convgate.gating import Gate as GateModule

if TYPE_CHECKING:
    from convgate.engine.lowering.walker import Walker

__all__ = ["Again", "Beyond", "Held", "Partner"]


class Again(Exception):  # noqa: N818 -- not an error
    """These nodes must be PyTorch's, too; begin again."""

    def __init__(self, nodes: Iterable[str], reason: str) -> None:
        super().__init__(reason)
        self.nodes, self.reason = set(nodes), reason


class Beyond(Unsupported):
    """What is read lies with PyTorch, and not in the form of a value of a program."""


@dataclass(frozen=True)
class Held:
    """The result of a node that PyTorch computes; of a gate's call, which gate."""

    node: str
    gate: str = ""


class Partner:
    """What PyTorch computes: which nodes, and how their results come into the program and the program's into them."""

    def __init__(
        self, source: Source, done: Translation, walker: "Walker", external: bool, forced: Mapping[str, str]
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
            raise Beyond("it reads what PyTorch computes, which is not a batch of maps or vectors")
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
        """The name under which the network returns a part of its result that is not a value of a program."""
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
                raise Again(group, "a part of this convolution has no native form")
        facts = self.source.facts
        stale = {
            argument.name
            for argument in node.all_input_nodes
            if any(symbol.value in self.walker.stale for symbol in tensors(self.walker.known[argument]))
        }
        changed, now = facts.changed[node.name], self.order[node.name]
        touched = {n for n, own in facts.memory.items() if own & changed} - {node.name}
        later = {user for n in self._nodes(touched) for user in n.users if self.order[user.name] > now}
        if later:
            stale |= touched
        if stale:
            # The images are not computed by PyTorch: the nodes that read them from here on.
            nodes = {n.name for n in self._nodes(facts.sharing(stale)) if n.op in _COMPUTING}
            nodes |= {user.name for user in later if user.op in _COMPUTING}
            if nodes - {node.name} - self.forced.keys() - self.outside.reasons.keys():
                raise Again(nodes, "it shares memory with what PyTorch writes to in place")

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
        if isinstance(known, tuple | list | Mapping) and tensors(known):
            return fx.node.map_aggregate(known, self._reference)
        self._light(part, known)
        return Of(part.name)

    def _light(self, node: fx.Node, known: Any) -> None:
        """A node that is not a tensor of the program: a constant, or something that follows from shapes."""
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
