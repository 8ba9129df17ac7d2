"""What of a program runs natively, what does not, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from convgate.engine.program import Program, dense_macs, references

__all__ = ["Explanation", "Row", "explain"]


@dataclass(frozen=True)
class Row:
    """A layer of the ledger, or an operation that is on no line of it.

    `macs` are those of one sample when every gate is open; `why` says why it is not `native`.
    """

    name: str
    native: bool
    macs: int
    why: str = ""


@dataclass(frozen=True)
class Explanation:
    """Which layers and operations run natively. `print` it, or read `rows` and `native_share`."""

    rows: tuple[Row, ...]

    @property
    def native_share(self) -> float:
        """The share of the MACs that the native runtime computes, when every gate is open; 1.0 where there are none."""
        total = sum(row.macs for row in self.rows)
        return sum(row.macs for row in self.rows if row.native) / total if total else 1.0

    def __str__(self) -> str:
        others = [row for row in self.rows if not row.native]
        lines = [f"{self.native_share:.1%} of the MACs run natively"]
        if others:
            lines.append(f"{len(others)} layers and operations do not:")
            width = max(len(row.name) for row in others)
            lines += [
                f"  {row.name:{width}}  {f'{row.macs:,} MACs' if row.macs else '':>20}  {row.why}" for row in others
            ]
        return "\n".join(lines)


def explain(program: Program, elsewhere: Mapping[str, tuple[int, str]]) -> Explanation:
    """The rows of a program; `elsewhere` has (MACs, why not native) of what the native runtime does not compute."""
    native = dict.fromkeys(layer for layer in program.layers if layer not in elsewhere)
    macs = dict.fromkeys(native, 0)
    for operation in program.operations:
        for layer in set(references(operation, "layer")) - elsewhere.keys():
            macs[layer] = macs.get(layer, 0) + dense_macs(program, operation)
    rows = [Row(layer, True, count) for layer, count in macs.items()]
    return Explanation((*rows, *(Row(name, False, count, why) for name, (count, why) in elsewhere.items())))
