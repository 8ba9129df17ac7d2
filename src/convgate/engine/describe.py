"""A program as a table that people can read."""

from typing import Any

from convgate.engine.program import (
    Completing,
    Conv,
    ConvTranspose,
    Element,
    Operation,
    Program,
    dense_macs,
    form,
    label,
    reads,
    reference_fields,
)

__all__ = ["describe"]

_WORDS = {"in_channels": "inputs", "out_channels": "outputs"}


def describe(program: Program) -> str:
    """One line per operation: what it is, reads and writes, its gates, and its MACs when every gate is open."""
    macs = [dense_macs(program, operation) for operation in program.operations]
    rows: list[tuple[str, ...]] = [("writes", "operation", "reads", "shape", "gates", "MACs", "in")]
    for operation, spent in zip(program.operations, macs, strict=True):
        shape, gates = _shape(program, operation), "; ".join(_gates(operation))
        what, reading = _what(program, operation), ", ".join(operation.inputs)
        count = f"{spent:,}" if spent else ""
        rows.append((label(operation), what, reading, shape, gates, count, _in(program, operation)))
    if not any(value.element is Element.BFLOAT16 for value in program.values):
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    title = f"{len(program.operations)} operations, {len(program.gates)} gates, {sum(macs):,} MACs"
    lines = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join([title, "", *(line.rstrip() for line in lines)])


def _in(program: Program, operation: Operation) -> str:
    """What an operation computes in, and what is converted for it."""
    own = form(program, operation)
    stored = [program.value(name).element for name in operation.inputs]
    wanted = [own[1] if isinstance(operation, Conv) and number else own[0] for number in range(len(stored))]
    words = [str(own[0]) if own[0] is own[1] else f"{own[0]}, to {own[1]}"]
    if stored != wanted:
        words.append("converts what it reads")
    if program.has(operation.output) and program.value(operation.output).element is not own[1]:
        words.append("converts what it writes")
    return "; ".join(words)


def _gates(operation: Operation) -> list[str]:
    names = set(reads(operation, "gate"))
    fields = (key for key, kind in reference_fields(type(operation)).items() if kind == "gate")
    found = ((key, getattr(operation, key)) for key in fields)
    words = [f"{_WORDS.get(key, key)}: {name}" for key, name in found if isinstance(name, str) and name in names]
    rows, columns = getattr(operation, "reach", (0, 0))
    return [*words, f"dilated by {rows}x{columns}"] if rows or columns else words


def _shape(program: Program, operation: Operation) -> str:
    if operation.output not in {value.name for value in program.values}:
        return ""
    value = program.value(operation.output)
    element = "" if value.element is Element.FLOAT32 else f" {value.element}"
    return f"{value.channels}x{value.height}x{value.width}{element}"


def _what(program: Program, operation: Operation) -> str:
    words = [type(operation).__name__.lower()]
    kernel: Any = getattr(operation, "kernel", None)
    if isinstance(operation, Conv | Completing | ConvTranspose):
        kernel = program.arrays[operation.weight].shape[2:]
    if isinstance(operation, Conv | ConvTranspose) and operation.groups > 1:
        words.append(f"groups {operation.groups}")
    if kernel:
        words.insert(1, f"{kernel[0]}x{kernel[1]}")
    stride = getattr(operation, "stride", (1, 1))
    if stride != (1, 1):
        words.append(f"stride {stride[0]}")
    activation = getattr(operation, "activation", None)
    return " ".join(words) + (f", {activation}" if activation else "")
