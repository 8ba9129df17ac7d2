"""Which values a program has for its decisions alone."""

from convgate.engine.program.program import Program
from convgate.engine.program.references import decides

__all__ = ["serving_decisions"]


def serving_decisions(program: Program) -> frozenset[str]:
    """The values that serve nothing but decisions: what gates' heads compute."""
    wanted = set(program.outputs)
    for operation in reversed(program.operations):
        if operation.output in wanted or (not operation.output and not decides(operation)):
            wanted |= set(operation.inputs)
    return frozenset(op.output for op in program.operations if not decides(op) and op.output not in wanted)
