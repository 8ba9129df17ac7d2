"""What the file's outputs are: those of the network, as an engine's run lists them, with names."""

from collections.abc import Iterator
from typing import Any

from convgate.engine.outputs import Rows
from convgate.engine.program import Program
from convgate.onnx_export.writer import Writer

__all__ = ["named_outputs", "write_output"]


def named_outputs(program: Program) -> list[tuple[str, int | Rows]]:
    """Names of the network's outputs, in the order of `Run.outputs`, with the output or rows of outputs that each is.

    One is "output"; of several they are numbered, and those of a dict have its keys.
    """
    returns = program.returns
    if returns is None:
        returns = tuple(range(len(program.outputs))) if len(program.outputs) > 1 else 0
    return list(_named(returns, ""))


def _named(part: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict | tuple):
        for key, inner in part.items() if isinstance(part, dict) else enumerate(part):
            below = f"{name}.{key}" if name else str(key) if isinstance(part, dict) else f"output_{key}"
            yield from _named(inner, below)
    elif part is not None:
        yield name or "output", part


def write_output(w: Writer, name: str, part: int | Rows) -> tuple[Any, ...]:
    """Write one output as the tensor `name`; returns its shape without the samples, None for sizes that follow."""
    program, graph = w.program, w.graph
    if isinstance(part, Rows):
        return _rows(w, name, part)
    value = program.value(program.outputs[part])
    read = w.read(value.name)
    if value.name in program.vectors:
        graph.output(graph.node("Flatten", read, axis=1, name=value.name), name)
        return (value.channels,)
    graph.output(read, name)
    return value.shape


def _rows(w: Writer, name: str, rows: Rows) -> tuple[Any, ...]:
    graph, parts, count = w.graph, [], 0
    for number in rows.outputs:
        value = w.program.value(w.program.outputs[number])
        anchors = value.channels // rows.of
        cut = graph.reshaped(w.read(value.name), (anchors, rows.of, value.height, value.width), f"{name}.cut")
        turned = graph.node("Transpose", cut, perm=[0, 3, 4, 1, 2], name=f"{name}.turned")
        parts.append(graph.reshaped(turned, (-1, rows.of), f"{name}.rows"))
        count += anchors * value.height * value.width
    together = graph.node("Concat", *parts, axis=1, name=f"{name}.together")
    if rows.across:
        graph.output(graph.node("Transpose", together, perm=[0, 2, 1], name=f"{name}.across"), name)
        return (rows.of, count)
    graph.output(together, name)
    return (count, rows.of)
