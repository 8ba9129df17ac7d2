"""Operations that combine many elements of a map: windows, cells, norms, sums over channels."""

from dataclasses import dataclass

from convgate.engine.program.operation import ArrayName, MaskName, Operation

__all__ = ["GroupNorm", "LayerNorm", "OverChannels", "Pool", "PoolToGrid", "Softmax"]


@dataclass(frozen=True)
class Pool(Operation):
    """Maximum or average (`kind`) over windows; windows end at the padded border, and past it where ceil_mode does.

    An average divides by the number of elements in the window: with those of the padding if `count_padding`, else
    without; those past the padded border never count. `ceil` says that ceil_mode does.
    """

    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    count_padding: bool = True
    ceil: bool = False


@dataclass(frozen=True)
class PoolToGrid(Operation):
    """Average, or `maximum`, over the output's grid of cells.

    Cell i spans floor(i * size / cells) to ceil((i + 1) * size / cells). `grid` is
    its number of rows and columns, 0 for as many as the input has; where `mask` is named, they are those of that gate's
    mask.
    """

    maximum: bool = False
    grid: tuple[int, int] = (0, 0)
    mask: MaskName = ""


@dataclass(frozen=True)
class GroupNorm(Operation):
    """Each of `groups` groups of channels, at all positions, less its mean, over its deviation; then scale and shift.

    The deviation is sqrt(variance + epsilon); `scale` and `shift` name arrays [channels], or nothing.
    """

    scale: ArrayName
    shift: ArrayName
    epsilon: float
    groups: int = 1


@dataclass(frozen=True)
class LayerNorm(Operation):
    """The channels of each position less their mean, over their deviation; then scale and shift, as in `GroupNorm`."""

    scale: ArrayName
    shift: ArrayName
    epsilon: float


@dataclass(frozen=True)
class Softmax(Operation):
    """exp(x) over the sum of exp(x) of all channels at the same position."""


@dataclass(frozen=True)
class OverChannels(Operation):
    """The mean, or the `maximum`, of the channels at each position."""

    maximum: bool = False
