"""What a program's operations read, write and decide: feature maps and gates."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Element", "Gate", "GateKind", "Value"]


class Element(StrEnum):
    """What the elements of a value are."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    UINT8 = "uint8"
    INT32 = "int32"

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest integer; -128 is not used, so that every negative is stored, too.

        >>> Element.INT8.limits
        (-127, 127)
        """
        if not self.is_byte:
            raise ValueError(f"elements that are {self} have no limits")
        return (-127, 127) if self is Element.INT8 else (0, 255)

    @property
    def bytes(self) -> int:
        """How many bytes one takes.

        >>> [element.bytes for element in (Element.FLOAT32, Element.BFLOAT16, Element.UINT8)]
        [4, 2, 1]
        """
        return 1 if self.is_byte else 2 if self is Element.BFLOAT16 else 4

    @property
    def is_byte(self) -> bool:
        """Whether values are stored as integers of 8 bits."""
        return self in (Element.INT8, Element.UINT8)

    @property
    def is_integer(self) -> bool:
        """Whether values are stored as integers: of 8 bits, or sums of 32, of which each channel has units of its own.

        >>> [str(element) for element in Element if element.is_integer]
        ['int8', 'uint8', 'int32']
        """
        return self.is_byte or self is Element.INT32


@dataclass(frozen=True)
class Value:
    """A feature map of one sample.

    Of integers of 8 bits, each stands for itself times `scale`, so that zero is zero; `scale` is 1 elsewhere.
    """

    name: str
    channels: int
    height: int
    width: int
    element: Element = Element.FLOAT32
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width


class GateKind(StrEnum):
    """What an entry of a gate's mask stands for; see `Gate`. The counterpart of `convgate.gating.GateKind`."""

    SPATIAL = "spatial"
    CHANNEL = "channel"
    ACTIVATION = "activation"


@dataclass(frozen=True)
class Gate:
    """A binary decision about parts of a value; `shape` is its mask's, [units, rows, columns].

    By `kind`:

    - `spatial`, [1, rows, columns]: per tile. A tile mask spreads over a value's positions by nearest neighbour
      (see `convgate.engine.tiles.tile_of`).
    - `channel`, [units, 1, 1]: per unit of channels. Unit i holds the `group` channels from i * group on, the last may
      be smaller.
    - `activation`, [units, height, width] of the value: per unit of channels at each position.

    Where the mask's size follows that of a map, `on` names it: of an activation gate, the mask is as large; a tile of a
    spatial gate is `sides` (height, width) positions large, or the whole map where these are 0.
    """

    name: str
    kind: GateKind
    shape: tuple[int, int, int]
    group: int = 1
    sides: tuple[int, int] = (0, 0)
    on: str = ""

    @property
    def offset_shape(self) -> tuple[int, int, int]:
        """The shape of the offset that its decision adds to the logits."""
        return (self.shape[0], 1, 1) if self.kind == GateKind.ACTIVATION else self.shape

    @property
    def logit_channels(self) -> int:
        """How many channels the logits have that are decided on: those of an activation gate are averaged by group."""
        return self.shape[0] * (self.group if self.kind == GateKind.ACTIVATION else 1)
