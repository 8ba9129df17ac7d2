"""The ledger of a network: every layer's MACs, and what a batch of decisions makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from convgate.cost.layers import LayerCost
from convgate.gating import Decisions

__all__ = ["Cost", "Ledger"]


@dataclass(frozen=True, eq=False)
class Cost:
    """What a batch cost, in multiply-accumulates.

    `macs` is per sample [N], gates included; `by_layer` has the same per layer, per gate as "gates.NAME", and per fill
    path as "fills.NAME"; `dense` is what the ungated network spends on each sample. Integers (int64) where decisions
    are final; float where a gradient flows through the masks, and then differentiable, or where a mask holds fractions.
    """

    macs: Tensor
    dense: int
    by_layer: Mapping[str, Tensor]

    @property
    def ratio(self) -> Tensor:
        """Share of the dense MACs per sample, float [N]."""
        return self.macs / self.dense


@dataclass(frozen=True)
class Ledger:
    """Every layer that multiplies and accumulates, and what gates and the filling of closed tiles cost.

    `gates` maps a gate to the MACs of its head, `fills` a fill path to its own (see `convgate.gated.FillSpec`); both
    are spent on every sample. `uncounted` names what runs but is not counted.
    """

    layers: tuple[LayerCost, ...]
    gates: Mapping[str, int] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    fills: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def dense(self) -> int:
        """MACs of the ungated network per sample."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def gate_macs(self) -> int:
        """MACs of all gate heads per sample."""
        return sum(self.gates.values())

    @cached_property
    def fill_macs(self) -> int:
        """MACs of all fill paths per sample."""
        return sum(self.fills.values())

    @cached_property
    def always(self) -> dict[str, int]:
        """The lines of what gating adds, spent on every sample: "gates.NAME" and "fills.NAME" -> MACs."""
        heads = {f"gates.{name}": macs for name, macs in self.gates.items()}
        return heads | {f"fills.{name}": macs for name, macs in self.fills.items()}

    def cost(self, decisions: Decisions, *, whole: bool = False) -> Cost:
        """What the decisions cost. They are taken as they are; `GatedNetwork.cost` checks them first.

        `whole` says that masks without a gradient hold nothing but 0 and 1 (fractions would be rounded down); if not,
        they are looked at, and the answer waits for the device.
        """
        # Training's estimators may give fractions; they are counted as such. Masks that were stored may be bool.
        masks = [d.mask for d in decisions.values() if d.mask.is_floating_point()]
        floating = any(m.requires_grad for m in masks) or (not whole and _have_fractions(masks))
        reference = next(iter(decisions.values())).mask
        by_layer: dict[str, Tensor] = {}
        for layer in self.layers:
            if not layer.gated:
                by_layer[layer.name] = _constant(layer.macs, reference, floating)
            else:
                by_layer[layer.name] = layer.count(decisions, exact=not floating)
        for name, macs in self.always.items():
            by_layer[name] = _constant(macs, reference, floating)
        return Cost(macs=torch.stack(list(by_layer.values())).sum(0), dense=self.dense, by_layer=by_layer)


def _have_fractions(masks: list[Tensor]) -> bool:
    # Asked once for all, since each answer waits for the device.
    return bool(masks) and bool(torch.stack([(mask != mask.round()).any() for mask in masks]).any())


def _constant(macs: int, like: Tensor, floating: bool) -> Tensor:
    dtype = torch.float32 if floating else torch.int64
    return torch.full((), macs, dtype=dtype, device=like.device).expand(like.shape[0])
