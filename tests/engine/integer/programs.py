"""A program of one operation on integers, checked, and what the reference computes for it."""

import numpy as np

from convgate.engine.check import check
from convgate.engine.integer.reference import Context, compute
from convgate.engine.program import Dequantize, Element, Program, Quantize, Value, references


def one_operation(op, inputs, out, arrays=None, scale=0.5):
    """What `op` writes to `out` for arrays by name; a program around it, from float32 to float32, must be accepted."""
    values, before, names = [], [], []
    for name, array in inputs.items():
        value = Value(name, *array.shape[1:])
        if array.dtype != np.float32:
            images = Value(f"{name} as float32", *array.shape[1:])
            value = Value(name, *array.shape[1:], Element(array.dtype.name), scale)
            values.append(images)
            before.append(Quantize((images.name,), name))
        values.append(value)
        names.append(before[-1].inputs[0] if array.dtype != np.float32 else name)
    after = (Dequantize(("y",), "end"),) if out.element.is_integer else ()
    ends = (Value("end", out.channels, out.height, out.width),) if after else ()
    program = Program(
        (*values, out, *ends), (), (*before, op, *after), tuple(names), ("end",) if after else ("y",), arrays or {},
        references(op, "layer"),
    )  # fmt: skip
    check(program)
    return compute(op, Context(program, lambda gate, value: None), [inputs[name] for name in op.inputs])
