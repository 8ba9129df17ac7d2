"""What operations of a program in bfloat16 compute with; see `docs/design/precision.md`."""

from convgate.engine.program.convolutions import Complete, Conv, ConvTranspose
from convgate.engine.program.deciding import Decide, External
from convgate.engine.program.operation import Operation
from convgate.engine.program.pooling import GroupNorm, LayerNorm, OverChannels, Pool, PoolToGrid, Softmax
from convgate.engine.program.program import Program
from convgate.engine.program.values import Element

__all__ = ["FLOAT32_ONLY", "WIDENS", "form", "weight_element"]

FLOAT32_ONLY = (Complete, ConvTranspose, Decide, External, GroupNorm, LayerNorm, OverChannels, Softmax)
"""Operations that have no form in bfloat16: what they read is widened, what they write is rounded afterwards."""

WIDENS = (Conv, Pool, PoolToGrid)
"""Operations that read bfloat16 and write their sums, or maxima, as float32."""


def form(program: Program, operation: Operation) -> tuple[Element, Element]:
    """What an operation reads and writes: float32 or bfloat16.

    Inputs that are stored otherwise are rounded, or widened, to the first; maps that are added to a convolution's
    results to the second, and so is a convolution's output. Weights: see `weight_element`.
    """
    if isinstance(operation, FLOAT32_ONLY) or not program.has(operation.output):
        return Element.FLOAT32, Element.FLOAT32
    if program.value(operation.output).element is Element.BFLOAT16:
        return Element.BFLOAT16, Element.BFLOAT16
    first = program.value(operation.inputs[0]).element if isinstance(operation, WIDENS) else Element.FLOAT32
    return (Element.BFLOAT16 if first is Element.BFLOAT16 else Element.FLOAT32), Element.FLOAT32


def weight_element(program: Program, conv: Conv) -> Element:
    """What a convolution's weights are rounded to: as what it reads, but float32 if channels are convolved singly.

    Such weights are few and cost nothing, and a sum of nine products hides no error of theirs: rounded, they made a
    third of what EfficientNet-Lite0 lost (`docs/design/precision.md`).
    """
    channels, out = program.value(conv.inputs[0]).channels, program.value(conv.output).channels
    if conv.is_depthwise(channels, out) and conv.in_channels in ("", conv.out_channels):
        return Element.FLOAT32
    return form(program, conv)[0]
