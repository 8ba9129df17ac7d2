"""What a latency model is for: a machine, an engine's settings, a program."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields

from convgate.engine import Engine
from convgate.engine.program import Program
from convgate.timing.machine import processor, version_of

__all__ = ["Origin", "digest"]


@dataclass(frozen=True)
class Origin:
    """What times depend on beside the masks.

    `program` is a digest of its operations and shapes; not of its weights, on which times do not depend, so that a
    network that is trained on or calibrated anew keeps its model. `clock`: see `watch`.
    """

    processor: str
    cores: int
    threads: int
    isa: str
    precision: str
    convgate: str
    program: str
    clock: str

    @classmethod
    def of(cls, engine: Engine, clock: str) -> "Origin":
        """That of an engine on this machine."""
        return cls(
            processor=processor(),
            cores=os.cpu_count() or 1,
            threads=engine.threads,
            isa=engine.isa,
            precision=str(engine.precision),
            convgate=version_of("convgate") or "unknown",
            program=digest(engine.program),
            clock=clock,
        )

    def differences(self, other: "Origin") -> list[str]:
        """In words, what is different: "threads 2, not 1"; its own first."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return [f"{name} {own}, not {others}" for name, own, others in pairs if own != others]


def digest(program: Program) -> str:
    """SHA-256 of a program's operations, values and gates and the shapes of its arrays."""
    parts = {
        "values": [asdict(value) for value in program.values],
        "gates": [asdict(gate) for gate in program.gates],
        "operations": [[type(operation).__name__, asdict(operation)] for operation in program.operations],
        "arrays": {name: array.shape for name, array in program.arrays.items()},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
