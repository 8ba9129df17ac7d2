"""Operations that have MACs: convolutions, also of parts of the sums, and transposed ones."""

from dataclasses import dataclass

from convgate.engine.program.activation import NO_ACTIVATION, Activation
from convgate.engine.program.operation import ArrayName, GateName, LayerName, Operation

__all__ = ["Complete", "Completing", "Conv", "ConvTranspose"]


@dataclass(frozen=True)
class Conv(Operation):
    """activation(masked(convolution(inputs[0]) + bias) + inputs[1], if there is one).

    `weight` names an array [out, in / groups, kernel height, kernel width], `bias` one [out] or nothing ("").
    `positions`, `in_channels` and `out_channels` name gates ("" for none): outputs at closed positions and in closed
    channels are masked to zero before the second input is added; input channels that are closed hold zeros and need not
    be read. A position is open, too, that is at most `reach` rows and columns away from one in an open tile.
    An activation of a masked convolution maps zero to zero. `padding` is top, left, bottom, right, with zeros. A linear
    layer is a convolution whose kernel is as large as its input. `layer` is the line of the ledger on which its MACs
    are counted.
    """

    weight: ArrayName
    bias: ArrayName
    layer: LayerName
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    activation: Activation = NO_ACTIVATION
    positions: GateName = ""
    in_channels: GateName = ""
    out_channels: GateName = ""
    reach: tuple[int, int] = (0, 0)

    def is_depthwise(self, channels: int, out: int) -> bool:
        """Whether, of so many channels in and out, each is convolved by itself."""
        return 1 < self.groups == channels == out


@dataclass(frozen=True)
class Completing(Operation):
    """Partial sums, inputs[1], to which a convolution of inputs[0] is added where an activation gate is open.

    What follows the sums, where the gate is open and where it is not, is said by its kinds: `Complete` of float32 and
    `IntegerComplete`. A third input, which is optional, is added after that.

    Channels are cut into `parts` chunks, and chunk i of the outputs reads all chunks of the inputs but the i-th, of
    which its partial sums are; with 1 part, all inputs. `weight` names an array [out, read, kernel height, kernel
    width], input channels ascending. The geometry and `layer` are as a `Conv`'s.
    """

    weight: ArrayName
    layer: LayerName
    gate: GateName
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    parts: int = 1


@dataclass(frozen=True)
class Complete(Completing):
    """activation((sum + convolution(inputs[0])) * open_scale + open_shift + inputs[2]) where `gate` is open.

    Elsewhere activation(sum * scale + shift + inputs[2]). The four name arrays [out], or nothing: a scale of 1, a shift
    of 0.
    """

    activation: Activation = NO_ACTIVATION
    scale: ArrayName = ""
    shift: ArrayName = ""
    open_scale: ArrayName = ""
    open_shift: ArrayName = ""


@dataclass(frozen=True)
class ConvTranspose(Operation):
    """activation(transposed convolution(inputs[0]) + bias), as `torch.nn.functional.conv_transpose2d`.

    `weight` names an array [in, out / groups, kernel height, kernel width], `bias` one [out] or nothing (""). Every
    input position meets every element of the kernel; those are its MACs, with those that fall into the padding.
    """

    weight: ArrayName
    bias: ArrayName
    layer: LayerName
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    output_padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    activation: Activation = NO_ACTIVATION
