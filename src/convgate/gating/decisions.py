"""What the gates of a network decided for a batch: an ordered, read-only mapping from gate name to decision."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convgate.errors import InputError
from convgate.gating.kinds import GateKind

__all__ = ["Decision", "Decisions", "UnknownGateError"]


@dataclass(frozen=True, eq=False)
class Decision:
    """One gate's decision for a batch.

    `kind` says what a mask entry stands for: `Tiles` (a tile of positions; mask [N, 1, rows, columns]),
    `ChannelGroups` (a group of channels; mask [N, groups, 1, 1]) or `Activations` (one position of a group of channels;
    mask [N, groups, H, W]). `mask` is float and exactly 0 or 1 (in training some estimators also return values in
    between), differentiable in training; `logits` has its shape, or is None where the decision was given rather than
    computed.
    """

    kind: GateKind
    mask: Tensor
    logits: Tensor | None = None

    @property
    def density(self) -> Tensor:
        """Open share per sample, float [N]."""
        mask = self.mask if self.mask.is_floating_point() else self.mask.float()  # one that was stored may be bool
        return mask.flatten(1).mean(1)


class UnknownGateError(InputError, KeyError):
    """No gate of that name was decided."""

    __str__ = Exception.__str__  # KeyError's shows the message in quotation marks


class Decisions(Mapping[str, Decision]):
    """Gate name -> `Decision`, in the order in which the network takes them; batch first.

    `size` is the (height, width) of the images that they were made for, on which their cost depends; None stands for
    the size of the network's example.
    """

    __slots__ = ("_by_gate", "size")
    size: tuple[int, int] | None

    def __init__(
        self,
        by_gate: Mapping[str, Decision] | Iterable[tuple[str, Decision]],
        size: tuple[int, int] | None = None,
    ) -> None:
        self._by_gate = dict(by_gate)
        self.size = by_gate.size if size is None and isinstance(by_gate, Decisions) else size

    def __getitem__(self, gate: str) -> Decision:
        try:
            return self._by_gate[gate]
        except KeyError:
            raise UnknownGateError(
                f"no decision of a gate '{gate}'; the gates are: {', '.join(self._by_gate)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_gate)

    def __len__(self) -> int:
        return len(self._by_gate)

    def __repr__(self) -> str:
        gates = ", ".join(f"{name}: {d.kind} {list(d.mask.shape)}" for name, d in self.items())
        return f"Decisions({gates})"

    @property
    def batch_size(self) -> int:
        """N."""
        return next(iter(self.values())).mask.shape[0]

    def of_kind(self, kind: type[GateKind]) -> "Decisions":
        """The decisions of one kind, e.g. `decisions.of_kind(Tiles)`."""
        return Decisions(((name, d) for name, d in self.items() if isinstance(d.kind, kind)), self.size)

    def map(self, change: Callable[[str, Decision], Decision]) -> "Decisions":
        """`change(gate name, decision)` for every gate, for images of the same size."""
        return Decisions({name: change(name, decision) for name, decision in self.items()}, self.size)

    def detach(self) -> "Decisions":
        """The same decisions, cut off from the autograd graph."""
        return self._map(Tensor.detach)

    def without_logits(self) -> "Decisions":
        """The same decisions with their masks only."""
        return self.map(lambda _, d: Decision(d.kind, d.mask))

    def to(self, device: torch.device | str) -> "Decisions":
        """The same decisions on another device."""
        return self._map(lambda t: t.to(device))

    def select(self, samples: slice | Tensor) -> "Decisions":
        """The decisions for some samples of the batch."""
        return self._map(lambda t: t[samples])

    def numpy(self) -> dict[str, np.ndarray]:
        """Gate name -> mask as uint8 [N, units, rows, columns], as the engine takes it: `engine.run(x, given=..)`."""
        return {name: d.mask.detach().cpu().numpy().astype(np.uint8) for name, d in self.items()}

    @classmethod
    def from_numpy(
        cls, masks: Mapping[str, Any], kinds: Mapping[str, GateKind], size: tuple[int, int] | None = None
    ) -> "Decisions":
        """Decisions from arrays, e.g. those of an engine: `Decisions.from_numpy(run.decisions, kinds)`.

        Args:
            masks: by gate, arrays [N, units, rows, columns] of 0 and 1, or objects whose attribute `mask` is such an
                array.
            kinds: the gates' kinds, in the network's order; `{spec.name: spec.kind for spec in net.plan.gates}`.
            size: see the class.

        Raises:
            InputError: the masks are of other gates.

        """
        if masks.keys() != kinds.keys():
            raise InputError(
                f"masks were given for the gates {', '.join(masks) or 'none'}, and the network's are "
                f"{', '.join(kinds) or 'none'}"
            )
        arrays = {name: np.asarray(getattr(mask, "mask", mask)) for name, mask in masks.items()}
        return cls(
            ((name, Decision(kind, torch.from_numpy(arrays[name].astype(np.float32)))) for name, kind in kinds.items()),
            size,
        )

    @staticmethod
    def concatenate(parts: Iterable["Decisions"]) -> "Decisions":
        """One `Decisions` for several batches of the same network and size, in order. Raises `InputError` for none."""
        parts = list(parts)
        if not parts:
            raise InputError("no decisions to concatenate; give those of at least one batch")
        sizes = {part.size for part in parts}
        if len(sizes) > 1:
            raise InputError(f"decisions for images of different sizes ({sizes}) cannot be concatenated")
        joined = {
            name: Decision(
                first.kind,
                torch.cat([p[name].mask for p in parts]),
                None if first.logits is None else torch.cat([_logits(p, name) for p in parts]),
            )
            for name, first in parts[0].items()
        }
        return Decisions(joined, parts[0].size)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Decisions":
        return self.map(lambda _, d: Decision(d.kind, change(d.mask), None if d.logits is None else change(d.logits)))


def _logits(decisions: Decisions, gate: str) -> Tensor:
    logits = decisions[gate].logits
    if logits is None:
        raise InputError(f"gate '{gate}' has logits in some of the batches and none in others")
    return logits
