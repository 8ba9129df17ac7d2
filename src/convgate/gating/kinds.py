"""Kinds of gates: what one entry of a gate's mask stands for, how a mask is applied, and what it saves.

Everything that depends on a gate's kind is here. Other files ask the kind, or match on its type; they never compare
its name.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from convgate.errors import InputError
from convgate.gating.masks import mask_channels, mask_positions
from convgate.gating.partial import complete

__all__ = ["KINDS", "Activations", "ChannelGroups", "GateKind", "Shape", "Tiles"]

Shape = tuple[int, int, int]
"""Of a mask without the batch: [units, rows, columns]."""


class GateKind(ABC):
    """What one entry of a gate's mask stands for. Subclasses are frozen dataclasses; `str(kind)` is its `word`.

    A kind does not depend on the size of the input: `mask_shape` follows the map that the gate is for.

    Attributes:
        word: the kind in one word, for people and in files.
        entries: what the mask's entries are, in the plural.
        by_position: whether different positions may be decided differently.

    """

    word: ClassVar[str]
    entries: ClassVar[str]
    by_position: ClassVar[bool]

    @abstractmethod
    def mask_shape(self, channels: int, height: int, width: int) -> Shape:
        """The shape of a mask, without the batch, for a map [channels, height, width]."""

    @property
    @abstractmethod
    def offset_shape(self) -> Shape:
        """The shape of what calibration adds to the logits; it is broadcast to the mask's and fits every map."""

    @abstractmethod
    def pooled(self, shape: Shape) -> tuple[int, int] | None:
        """The grid to which the feature is averaged that the head sees, for a mask of `shape`; None if it is not."""

    @property
    def masking(self) -> tuple[Callable[..., Tensor], tuple[Any, ...]] | None:
        """(function, further arguments) with function(map, mask, *arguments) = the masked map; None if none is."""
        return None

    def apply(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x` [N, C, H, W] with zeros where `mask` is closed. Raises `InputError` for a kind that masks nothing."""
        if self.masking is None:
            raise InputError(f"{self!r} masks no map: a PartialSpec names the convolution that it completes")
        function, arguments = self.masking
        return function(x, mask, *arguments)

    @abstractmethod
    def describe(self, shape: Shape) -> str:
        """A mask of `shape` in words, e.g. "4x4 tiles"."""

    def __str__(self) -> str:
        return self.word


@dataclass(frozen=True)
class Tiles(GateKind):
    """A tile of positions, for all channels: masks [1, rows, columns].

    The positions and therefore the MACs of closed tiles are saved. A mask spreads over a map's positions by nearest
    neighbour.

    >>> Tiles(4).mask_shape(64, 30, 32)
    (1, 8, 8)

    Args:
        side: of a tile, in positions: one number, or (height, width); None: the whole map is one tile.

    """

    word: ClassVar[str] = "spatial"
    entries: ClassVar[str] = "tiles"
    by_position: ClassVar[bool] = True

    side: int | tuple[int, int] | None

    def __post_init__(self) -> None:
        sides = self.side if isinstance(self.side, tuple) else (1 if self.side is None else self.side,)
        if len(sides) > 2 or not all(_is_size(side) for side in sides):
            raise InputError(f"Tiles({self.side!r}): a side is a whole number of at least 1, a pair of them, or None")

    def mask_shape(self, channels: int, height: int, width: int) -> Shape:
        if self.side is None:
            return 1, 1, 1
        rows, columns = self.side if isinstance(self.side, tuple) else (self.side, self.side)
        return 1, math.ceil(height / rows), math.ceil(width / columns)

    @property
    def offset_shape(self) -> Shape:
        return 1, 1, 1

    def pooled(self, shape: Shape) -> tuple[int, int]:
        return shape[1:]

    @property
    def masking(self) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        return mask_positions, ()

    def describe(self, shape: Shape) -> str:
        return f"{shape[1]}x{shape[2]} tiles"


@dataclass(frozen=True)
class _Grouped(GateKind):
    """A kind whose entries stand for `group` neighbouring channels each; the last group may be smaller."""

    channels: int
    group: int = 1

    def __post_init__(self) -> None:
        if not _is_size(self.channels) or not _is_size(self.group):
            raise InputError(f"{self!r}: channels and group are whole numbers of at least 1")

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return math.ceil(self.channels / self.group)

    @property
    def offset_shape(self) -> Shape:
        return self.groups, 1, 1


@dataclass(frozen=True)
class ChannelGroups(_Grouped):
    """A group of channels, at all positions: masks [groups, 1, 1].

    Closed channels are neither computed nor read by the convolutions behind them.

    >>> ChannelGroups(64, group=8).mask_shape(64, 32, 32)
    (8, 1, 1)

    Args:
        channels: of the map.
        group: how many neighbouring channels share an entry.

    """

    word: ClassVar[str] = "channel"
    entries: ClassVar[str] = "groups of channels"
    by_position: ClassVar[bool] = False

    def mask_shape(self, channels: int, height: int, width: int) -> Shape:
        return self.groups, 1, 1

    def pooled(self, shape: Shape) -> tuple[int, int]:
        return 1, 1

    @property
    def masking(self) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        return mask_channels, (self.group,)

    def describe(self, shape: Shape) -> str:
        return f"{shape[0]}" if self.group == 1 else f"{shape[0]} groups of {self.group}"


@dataclass(frozen=True)
class Activations(_Grouped):
    """One position of a group of channels: masks [groups, height, width].

    Such a gate multiplies nothing: a convolution is completed where it is open, and gives its partial sums elsewhere
    (see `convgate.gated.PartialSpec`).

    >>> Activations(64).mask_shape(64, 32, 32)
    (64, 32, 32)

    Args:
        channels: of the map.
        group: how many neighbouring channels share an entry.

    """

    word: ClassVar[str] = "activation"
    entries: ClassVar[str] = "activations"
    by_position: ClassVar[bool] = True

    def mask_shape(self, channels: int, height: int, width: int) -> Shape:
        return self.groups, height, width

    def pooled(self, shape: Shape) -> None:
        return None

    @property
    def completing(self) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        """(function, further arguments) with function(full, base, mask, *arguments) = the completed map."""
        return complete, (self.group,)

    def describe(self, shape: Shape) -> str:
        return "x".join(map(str, shape))


KINDS: tuple[type[GateKind], ...] = (Tiles, ChannelGroups, Activations)
"""The kinds that convgate's ledger and engine know."""


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
