"""The engine: gated networks that really skip, without PyTorch.

`convgate.compile(network)` makes an `Engine`, `Engine.save` writes a .cgm file, `convgate.engine.load` reads it in a
process that has no torch. Only the lowering (`convgate.engine.lowering`, `convgate.engine.compile`) needs PyTorch.
"""

from convgate.engine.engine import Engine, GateDecision, Run, load
from convgate.engine.program import Program
from convgate.engine.runtime import instruction_sets

__all__ = ["Engine", "GateDecision", "Program", "Run", "instruction_sets", "load"]
