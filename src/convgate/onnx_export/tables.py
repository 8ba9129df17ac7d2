"""Functions of single 8-bit integers, by table."""

import numpy as np

from convgate.engine.program import Element, Lookup, Program
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__ = ["keeps_zero"]


@written.register
def _lookup(op: Lookup, w: Writer) -> str:
    graph, out = w.graph, w.program.value(op.output)
    # The integers as they are: what is read with a scale of 1.
    index = w.scaled(op.inputs[0], 1.0)
    if begin := _zero(w.program, op):
        index = graph.node("Add", index, graph.floats(float(begin), "begin"), name=f"{op.output}.from_zero")
    index = graph.cast(index, "INT32", f"{op.output}.index")
    table = w.array(op.table).astype(np.float32) * np.float32(out.scale)
    return graph.node("Gather", graph.floats(table, op.table), index, axis=0, name=f"{op.output}.found")


def keeps_zero(program: Program, op: Lookup) -> bool:
    """Whether zero stays zero."""
    return bool(program.arrays[op.table][_zero(program, op)] == 0)


def _zero(program: Program, op: Lookup) -> int:
    """The number of the entry for zero."""
    return 128 if program.value(op.inputs[0]).element is Element.INT8 else 0
