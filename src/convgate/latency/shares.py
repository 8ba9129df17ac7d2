"""How much of an operation is open: shares of its positions, channels and activations, given the gates' masks."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from convgate.engine.integer import dilated
from convgate.engine.tiles import tile_of

__all__ = ["Activations", "Channels", "Positions", "Share", "Squares"]

Masks = Mapping[str, np.ndarray]
"""Gate name -> uint8 [N, units, rows, columns] of 0 and 1."""


@dataclass(frozen=True)
class Share:
    """Which share of something is open, 0 to 1; `gate` names the gate that says so."""

    gate: str

    def of(self, masks: Masks) -> np.ndarray:
        """The share for each sample, float64 [N]."""
        raise NotImplementedError


@dataclass(frozen=True)
class Positions(Share):
    """Open positions of a map of `height` x `width`, over which a mask of tiles spreads by nearest neighbour.

    Those count, too, that are at most `reach` rows and columns away from an open tile.
    """

    height: int
    width: int
    reach: tuple[int, int] = (0, 0)

    def of(self, masks: Masks) -> np.ndarray:
        """See `Share`."""
        mask = masks[self.gate][:, 0]
        if self.reach != (0, 0):
            return _spread(mask, self.height, self.width, self.reach).mean((1, 2), dtype=np.float64)
        lines, columns = _sizes(self.height, mask.shape[1]), _sizes(self.width, mask.shape[2])
        found: np.ndarray = np.einsum("nyx,y,x->n", mask, lines, columns, dtype=np.float64)
        return found / (self.height * self.width)


@dataclass(frozen=True)
class Squares(Share):
    """Squares of 2 x 2 positions, as Winograd's algorithm computes them, with an open position; see `Positions`."""

    height: int
    width: int
    reach: tuple[int, int] = (0, 0)

    def of(self, masks: Masks) -> np.ndarray:
        """See `Share`."""
        spread = _spread(masks[self.gate][:, 0], self.height, self.width, self.reach)
        spread = np.pad(spread, ((0, 0), (0, self.height % 2), (0, self.width % 2)))
        any_open = spread[:, ::2, ::2] | spread[:, 1::2, ::2] | spread[:, ::2, 1::2] | spread[:, 1::2, 1::2]
        return any_open.mean((1, 2), dtype=np.float64)


@dataclass(frozen=True)
class Channels(Share):
    """Open channels, of `channels` in units of `group`; `lanes` at once, since a vector's lanes cost the same.

    What is left is packed, so that 17 open channels take two vectors of 16 lanes.
    """

    channels: int
    group: int = 1
    lanes: int = 1

    def of(self, masks: Masks) -> np.ndarray:
        """See `Share`."""
        mask = masks[self.gate].reshape(len(masks[self.gate]), -1).astype(np.float64)
        units = np.minimum(self.group, self.channels - self.group * np.arange(mask.shape[1]))
        vectors = np.ceil(mask @ units / self.lanes)
        return np.asarray(vectors / -(-self.channels // self.lanes))


@dataclass(frozen=True)
class Activations(Share):
    """Open activations, of units of `group` channels; with `lanes`, vectors at a position of which any is open."""

    channels: int
    group: int = 1
    lanes: int = 1

    def of(self, masks: Masks) -> np.ndarray:
        """See `Share`."""
        mask: np.ndarray = masks[self.gate] > 0
        if self.lanes > self.group:
            units = self.lanes // self.group
            mask = np.pad(mask, ((0, 0), (0, -mask.shape[1] % units), (0, 0), (0, 0)))
            mask = np.any(mask.reshape(len(mask), -1, units, *mask.shape[2:]), axis=2)
        return mask.mean((1, 2, 3), dtype=np.float64)


def _spread(mask: np.ndarray, height: int, width: int, reach: tuple[int, int]) -> np.ndarray:
    """Which positions are open: bool [N, height, width]."""
    spread = mask[:, tile_of(height, mask.shape[1])][:, :, tile_of(width, mask.shape[2])] > 0
    return dilated(spread, reach)


@cache
def _sizes(size: int, tiles: int) -> np.ndarray:
    """How many positions lie in each tile along one axis."""
    return np.bincount(tile_of(size, tiles), minlength=tiles).astype(np.float64)
