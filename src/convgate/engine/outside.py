"""The part of a network that PyTorch computes for an engine: steps of its graph, as data that is run on demand.

Each step is one node of the network's graph. Its arguments hold, in place of other nodes, where their values come from:
another step (`Of`), a value or a gate of the program (`Map`, `Mask`, `Decision`), or plain Python.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, fx, nn

from convgate.cost import LayerCost
from convgate.errors import InputError
from convgate.gating.kinds import GateKind

__all__ = ["Calls", "Decision", "Map", "Mask", "Of", "Outside", "Step", "Supply"]


@dataclass(frozen=True)
class Of:
    """The result of another step, or the argument of the network of that name."""

    step: str


@dataclass(frozen=True)
class Map:
    """A value of the program as the tensor [N, *shape] that the network has there.

    `padding` (top, left, bottom, right) are zeros around it; `over` is a shape that it is expanded to; its channels
    may come `last`; `dtype` is the
    tensor's.
    """

    value: str
    shape: tuple[int, ...]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    over: tuple[int, ...] | None = None
    last: bool = False


@dataclass(frozen=True)
class Mask:
    """The mask of a gate that the program decides, float32 [N, units...]."""

    gate: str


@dataclass(frozen=True)
class Decision:
    """What a gate returns: its mask, and no logits."""

    gate: str


@dataclass(frozen=True, eq=False)
class Step:
    """One node: `call` of `args` and `kwargs`; a method is the name of one, called on the first argument.

    A step that `asks` needs only the shapes of the program's values. One that `changes` something writes in place.
    """

    call: Callable[..., Any] | str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    asks: bool = False
    changes: bool = False


class Supply(Protocol):
    """What a call of an engine has computed so far."""

    batch: int

    def array(self, value: str) -> np.ndarray:
        """A value of the program, float32 [N, C, H, W]."""
        ...

    def mask(self, gate: str) -> np.ndarray:
        """The mask of a gate that was decided, uint8 [N, units...]."""
        ...


@dataclass(eq=False)
class Outside:
    """The steps by name, with constants; what they decide and what of them is returned is the program's to say.

    `reasons` says of each step that computes why it has no native form, `lines` on which line of the ledger it counts,
    if it does; `costs` are the lines of the ledger that
    PyTorch computes: a number of MACs, or a `LayerCost` where gates matter. `copied` are the results that a later step
    writes to, of which the program needs a copy. `given` maps arguments of the network to the gates whose masks they
    are; `kinds` are those of all gates.
    """

    steps: dict[str, Step] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    costs: dict[str, int | LayerCost] = field(default_factory=dict)
    copied: frozenset[str] = frozenset()
    given: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, GateKind] = field(default_factory=dict)

    def last_readers(self, order: Sequence[str]) -> Mapping[str, str]:
        """Step -> the last of the steps, which are run in this order, that needs its result."""
        last: dict[str, str] = {}
        for name in order:
            todo, seen = [name], {name}
            while todo:
                for part in _parts(self.steps[todo.pop()]):
                    if isinstance(part, Of) and part.step in self.steps and part.step not in seen:
                        seen.add(part.step)
                        last[part.step] = name
                        # What is only asked for is run when somebody asks.
                        todo += [part.step] if part.step not in self.reasons else []
        return last


def _parts(step: Step) -> list[Any]:
    found: list[Any] = []
    fx.node.map_aggregate((step.args, dict(step.kwargs)), lambda part: found.append(part))
    return found


class Calls:
    """The results of the steps within one call of an engine; a step is run when its result is first asked for."""

    def __init__(self, outside: Outside, supply: Supply, arguments: Mapping[str, Any]) -> None:
        self._outside, self._supply = outside, supply
        self._results: dict[str, Any] = dict(arguments)
        self._written: dict[Map, Tensor] = {}

    def result(self, name: str) -> Any:
        """The result of a step."""
        if name in self._results:
            return self._results[name]
        if name in self._outside.constants:
            return self._outside.constants[name]
        if name not in self._outside.steps:
            return None  # an argument of the network that is left at its default
        step = self._outside.steps[name]
        args, kwargs = fx.node.map_aggregate((step.args, dict(step.kwargs)), lambda part: self.value(part, step))
        try:
            with torch.no_grad():
                call = step.call
                result = getattr(args[0], call)(*args[1:], **kwargs) if isinstance(call, str) else call(*args, **kwargs)
        except Exception as error:
            raise InputError(f"PyTorch cannot compute '{name}' of this engine: {error}") from error
        self._results[name] = result
        return result

    def forget(self, name: str) -> None:
        """Let go of a result."""
        self._results.pop(name, None)

    def value(self, part: Any, step: Step | None = None) -> Any:
        """What stands for `part` in the arguments of a step."""
        if isinstance(part, Of):
            return self.result(part.step)
        if isinstance(part, Mask):
            return torch.from_numpy(self._supply.mask(part.gate).astype(np.float32))
        if isinstance(part, Decision):
            return self.value(Mask(part.gate)), None
        if isinstance(part, Map):
            return self._tensor(part, step)
        return part

    def _tensor(self, part: Map, step: Step | None) -> Tensor:
        batch = self._supply.batch
        if step is not None and step.asks:
            top, left, bottom, right = part.padding
            shape = part.over or part.shape
            if any(part.padding):
                shape = (shape[0], shape[1] + top + bottom, shape[2] + left + right)
            empty = torch.empty(batch, *shape, device="meta")
            return empty.permute(0, 2, 3, 1) if part.last else empty
        if part in self._written:
            return self._written[part]
        tensor = torch.from_numpy(self._supply.array(part.value)).reshape(batch, *part.shape)
        if any(part.padding):
            top, left, bottom, right = part.padding
            tensor = nn.functional.pad(tensor, (left, right, top, bottom))
        if part.last:
            tensor = tensor.permute(0, 2, 3, 1)
        if part.over is not None:
            tensor = tensor.expand(batch, *part.over)
        if step is not None and step.changes:
            # Never into what the engine goes on reading, or into the caller's own array.
            tensor = self._written[part] = tensor.clone()
        return tensor


def frozen(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy in evaluation mode that computes in float32 on the CPU: the network may be trained on."""
    return copy.deepcopy(module, memo).eval().float().cpu()
