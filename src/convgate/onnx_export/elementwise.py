"""Two maps element by element; ONNX spreads them as programs do."""

from convgate.engine.program import Add, Arithmetic, Multiply
from convgate.onnx_export.activations import activated
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__: list[str] = []

_KINDS = {"divide": "Div", "maximum": "Max", "minimum": "Min"}


@written.register
def _add(op: Add, w: Writer) -> str:
    return activated(w.graph, op.activation, _binary(w, "Add", op), op.output)


@written.register
def _multiply(op: Multiply, w: Writer) -> str:
    return _binary(w, "Mul", op)


@written.register
def _arithmetic(op: Arithmetic, w: Writer) -> str:
    return _binary(w, _KINDS[op.arithmetic], op)


def _binary(w: Writer, kind: str, op: Add | Arithmetic | Multiply) -> str:
    return w.graph.node(kind, *(w.read(name) for name in op.inputs), name=op.output)
