"""Before a program is run at one size: averages that need not be taken, or from less."""

from collections.abc import Mapping
from dataclasses import replace

from convgate.engine.program import (
    Element,
    IntegerMean,
    Operation,
    PoolToGrid,
    Program,
    Value,
    reference_fields,
    serving_decisions,
)

__all__ = ["share_pools"]


def share_pools(program: Program) -> Program:
    """The same program with fewer averages: over cells of one position none at all, and a coarse grid's from a finer's.

    A coarse grid is pooled from a finer one of the same value where both are even, so that a map is read once for all
    gates on it. Programs do not say so: whether grids are even depends on the size. Of integers that is so for
    decisions alone, as a mean of rounded means is rounded twice.
    """
    serving = serving_decisions(program)
    pools: dict[tuple[str, bool], list[Value]] = {}
    same: dict[str, str] = {}
    operations: list[Operation] = []
    for operation in program.operations:
        operation = _renamed(operation, same) if same else operation
        if isinstance(operation, PoolToGrid | IntegerMean):
            maximum = isinstance(operation, PoolToGrid) and operation.maximum
            source, grid = program.value(operation.inputs[0]), program.value(operation.output)
            # In bfloat16 a mean is rounded once, from what the map itself holds.
            same_type = source.element is grid.element
            if source.shape == grid.shape and same_type and grid.name not in program.outputs:
                same[grid.name] = source.name
                continue
            before = pools.setdefault((source.name, maximum), [])
            finer = [
                fine
                for fine in before
                if _divides(fine, source) and _divides(grid, fine) and _bytes(fine) < _bytes(source)
            ]
            if grid.element is Element.FLOAT32:
                before.append(grid)
            if grid.element is not Element.FLOAT32 or (isinstance(operation, IntegerMean) and grid.name not in serving):
                finer = []
            if finer:
                inputs = (finer[-1].name,)
                operation = PoolToGrid(inputs, operation.output, maximum, operation.grid, operation.mask)
        operations.append(operation)
    return replace(program, operations=tuple(operations))


def _bytes(value: Value) -> int:
    return value.channels * value.height * value.width * value.element.bytes


def _divides(grid: Value, value: Value) -> bool:
    return value.height % grid.height == 0 and value.width % grid.width == 0


def _renamed(operation: Operation, names: Mapping[str, str]) -> Operation:
    if not names.keys() & set(operation.inputs) or reference_fields(type(operation))["inputs"] != "value":
        return operation
    return replace(operation, inputs=tuple(names.get(name, name) for name in operation.inputs))
