"""Operations that move elements, or repeat them, and compute nothing else."""

from dataclasses import dataclass

from convgate.engine.program.operation import ArrayName, Operation

__all__ = ["Concat", "Constant", "Interpolate", "Pad", "Pick", "PixelShuffle", "PixelUnshuffle", "Reshape", "Slice"]


@dataclass(frozen=True)
class Pad(Operation):
    """inputs[0] with `padding` (top, left, bottom, right) around it, as `torch.nn.functional.pad`.

    By `mode`: "constant" (`value`; negative padding crops), "reflect", "replicate" or "circular".
    """

    padding: tuple[int, int, int, int]
    mode: str = "constant"
    value: float = 0.0


@dataclass(frozen=True)
class PixelShuffle(Operation):
    """Groups of factor * factor channels as squares of positions: `torch.nn.functional.pixel_shuffle`."""

    factor: int


@dataclass(frozen=True)
class PixelUnshuffle(Operation):
    """Squares of factor * factor positions as channels: `torch.nn.functional.pixel_unshuffle`."""

    factor: int


@dataclass(frozen=True)
class Reshape(Operation):
    """The elements of inputs[0], [channels, height, width], in their order, as a map of the output's shape."""


@dataclass(frozen=True)
class Interpolate(Operation):
    """inputs[0] in another size, as PyTorch's `interpolate` with `mode` "nearest", "nearest-exact" or "bilinear".

    The new size is that of inputs[1], of which nothing else is read, if there is one; else `size` (rows, columns), if
    it is not (0, 0); else each size times its scale in `scales`, rounded down. Scales other than 0 also say where each
    position reads, unless `align_corners`; else the ratio of the sizes does.
    """

    mode: str = "nearest"
    align_corners: bool = False
    scales: tuple[float, float] = (0.0, 0.0)
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Concat(Operation):
    """The inputs' channels one after another."""


@dataclass(frozen=True)
class Slice(Operation):
    """Channels `begin` up to (without) begin + the output's channels; those that the input lacks read as zeros."""

    begin: int


@dataclass(frozen=True)
class Pick(Operation):
    """The input's channels of these numbers, in this order."""

    channels: tuple[int, ...]


@dataclass(frozen=True)
class Constant(Operation):
    """The array named `weight`, [channels, height, width]. It has no inputs."""

    weight: ArrayName
