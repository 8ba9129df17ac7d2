"""What one layer costs, given what its gates decided."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convgate.gating import NO_REACH, Decisions, Reach, dilate, expand_channels, expand_tiles

__all__ = ["LayerCost"]


@dataclass(frozen=True)
class LayerCost:
    """A layer's multiply-accumulates per sample; for a gated convolution also what they depend on.

    Dense MACs of a convolution are (positions) x (kernel area) x (in/groups) x out. Gated, it computes only the open
    positions of its output, only the open output channels, and reads only the open input channels:
    `positions`, `outputs` and `inputs` name the gates that say which, or are None where all are computed. The mask of
    `positions` is dilated by `reach` rows and columns: what it opens so is computed, and counted, too.
    Source of the rule: DGNet's code, `get_flops` of its blocks; groups are counted group by group.

    Computed in part, every output activation sums over 1/`parts` of the input channels, and the open ones of the gate
    `activations` over the rest as well. Such a layer has no other gate.
    """

    name: str
    macs: int
    kernel_area: int = 1
    groups: int = 1
    in_channels: int = 1
    out_channels: int = 1
    size: tuple[int, int] = (1, 1)
    positions: str | None = None
    inputs: str | None = None
    outputs: str | None = None
    input_group: int = 1
    output_group: int = 1
    activations: str | None = None
    activation_group: int = 1
    parts: int = 1
    reach: Reach = NO_REACH

    @property
    def gated(self) -> bool:
        """Does the cost depend on decisions?"""
        return bool(self.gates)

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates that the cost depends on."""
        return tuple(g for g in (self.positions, self.inputs, self.outputs, self.activations) if g is not None)

    @property
    def open_macs(self) -> int:
        """MACs per sample by the rule above with every gate open; of a layer without gates `macs`."""
        if not self.gated:
            return self.macs
        return self.kernel_area * math.prod(self.size) * (self.in_channels // self.groups) * self.out_channels

    def count(self, decisions: Decisions, *, exact: bool) -> Tensor:
        """MACs per sample [N]: int64 if `exact`, else float and differentiable in the masks."""
        if self.activations is not None:
            open_ = self._open_activations(decisions[self.activations].mask, exact=exact)
            base, rest = self._shares_of_an_activation()
            return base * self.out_channels * self.size[0] * self.size[1] + rest * open_
        gates = [gate for gate in (self.positions, self.inputs, self.outputs) if gate]
        # Not in a mask's own dtype: sums in bfloat16 are rounded.
        masks = {gate: decisions[gate].mask.to(torch.int64 if exact else torch.float32) for gate in gates}
        return torch.as_tensor(self.kernel_area * self._open_positions(masks) * self._open_channel_pairs(masks))

    def by_position(self, mask: Tensor) -> Tensor:
        """MACs at each position of a layer that is computed in part, given its gate's mask: int64 [N, H, W]."""
        base, rest = self._shares_of_an_activation()
        open_ = expand_channels(mask.to(torch.int64), self.out_channels, self.activation_group).sum(1)
        return base * self.out_channels + rest * open_

    def _shares_of_an_activation(self) -> tuple[int, int]:
        """MACs of one output activation: of the base path, and of the rest of the sum."""
        inputs = self.in_channels // self.groups
        base = self.kernel_area * (inputs // self.parts)
        return base, self.kernel_area * inputs - base

    def _open_activations(self, mask: Tensor, *, exact: bool) -> Tensor:
        # Summed over positions first: the spread mask of a group gate is as large as the layer's output.
        per_unit = mask.sum((2, 3), keepdim=True, dtype=torch.int64 if exact else torch.float32)
        return expand_channels(per_unit, self.out_channels, self.activation_group).flatten(1).sum(1)

    def _open_positions(self, masks: Mapping[str, Tensor]) -> Tensor | int:
        if self.positions is None:
            return self.size[0] * self.size[1]
        mask = masks[self.positions]
        (height, width), (rows, columns) = self.size, mask.shape[2:]
        if height % rows or width % columns or self.reach != NO_REACH:
            return dilate(expand_tiles(mask.float(), self.size), self.reach).to(mask.dtype).flatten(1).sum(1)
        return mask.flatten(1).sum(1) * (height // rows * (width // columns))

    def _open_channel_pairs(self, masks: Mapping[str, Tensor]) -> Tensor | int:
        """How many (input channel, output channel) pairs are both open, summed over the groups."""
        inputs = self._open_per_group(masks, self.inputs, self.in_channels, self.input_group)
        outputs = self._open_per_group(masks, self.outputs, self.out_channels, self.output_group)
        if isinstance(inputs, int) and isinstance(outputs, int):
            return self.groups * inputs * outputs
        return torch.as_tensor(inputs * outputs).sum(1)

    def _open_per_group(self, masks: Mapping[str, Tensor], gate: str | None, channels: int, group: int) -> Tensor | int:
        if gate is None:
            return channels // self.groups
        mask = expand_channels(masks[gate], channels, group)
        return mask.view(mask.shape[0], self.groups, channels // self.groups).sum(2)
