"""A program: what the engine is to compute, as plain immutable data.

Values are feature maps of one sample, [channels, height, width], of float32, bfloat16 or integers; vectors are
1x1 maps. Operations run in order, each writes one value or decides one gate. Nothing here says how: layouts, fusing
into kernels and threads are the runtime's business. This package needs NumPy, and neither torch nor the rest of
convgate.
"""

from convgate.engine.program.activation import ACTIVATIONS, NO_ACTIVATION, Activation
from convgate.engine.program.convolutions import Complete, Completing, Conv, ConvTranspose
from convgate.engine.program.deciding import Decide, External, FillClosed, Mask
from convgate.engine.program.elementwise import Activate, Add, Affine, Arithmetic, Multiply, PRelu
from convgate.engine.program.forms import FLOAT32_ONLY, WIDENS, form, weight_element
from convgate.engine.program.heads import LARGE_HEAD, is_large_layer, serving_decisions
from convgate.engine.program.integer import (
    Dequantize,
    IntegerAdd,
    IntegerComplete,
    IntegerConv,
    IntegerConvToFloat,
    IntegerConvToSums,
    IntegerDecide,
    IntegerMean,
    Lookup,
    Quantize,
)
from convgate.engine.program.moving import (
    Concat,
    Constant,
    Interpolate,
    Pad,
    Pick,
    PixelShuffle,
    PixelUnshuffle,
    Reshape,
    Slice,
)
from convgate.engine.program.operation import ArrayName, GateName, LayerName, MaskName, Operation, ValueName
from convgate.engine.program.pooling import GroupNorm, LayerNorm, OverChannels, Pool, PoolToGrid, Softmax
from convgate.engine.program.program import Program, dense_macs
from convgate.engine.program.references import decides, label, reads, reference_fields, references
from convgate.engine.program.values import Element, Gate, GateKind, Value

__all__ = [
    "ACTIVATIONS",
    "FLOAT32_ONLY",
    "LARGE_HEAD",
    "NO_ACTIVATION",
    "WIDENS",
    "Activate",
    "Activation",
    "Add",
    "Affine",
    "Arithmetic",
    "ArrayName",
    "Complete",
    "Completing",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Decide",
    "Dequantize",
    "Element",
    "External",
    "FillClosed",
    "Gate",
    "GateKind",
    "GateName",
    "GroupNorm",
    "IntegerAdd",
    "IntegerComplete",
    "IntegerConv",
    "IntegerConvToFloat",
    "IntegerConvToSums",
    "IntegerDecide",
    "IntegerMean",
    "Interpolate",
    "LayerName",
    "LayerNorm",
    "Lookup",
    "Mask",
    "MaskName",
    "Multiply",
    "Operation",
    "OverChannels",
    "PRelu",
    "Pad",
    "Pick",
    "PixelShuffle",
    "PixelUnshuffle",
    "Pool",
    "PoolToGrid",
    "Program",
    "Quantize",
    "Reshape",
    "Slice",
    "Softmax",
    "Value",
    "ValueName",
    "decides",
    "dense_macs",
    "form",
    "is_large_layer",
    "label",
    "reads",
    "reference_fields",
    "references",
    "serving_decisions",
    "weight_element",
]
