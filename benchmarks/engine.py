"""Milliseconds per image of gated networks in convgate's engine, against dense ones in other engines.

The networks of the engine's targets, with random weights, gates calibrated to the budgets. The same code as
`convgate bench`: one process, the same inputs, engines in turns, each with the same number of threads.

    python benchmarks/engine.py [--seconds 30] [--only resnet18,..]
"""

import argparse
from dataclasses import dataclass
from typing import Any

from records import record

from convgate.bench import bench
from convgate.bench.report import sentences


@dataclass(frozen=True)
class Case:
    """A model, the share of its MACs to calibrate to, and how many threads."""

    model: str
    macs: float
    threads: int = 2


GRID = (
    Case("resnet18", 0.53),
    Case("resnet18", 0.43),
    Case("resnet18", 0.43, threads=1),
    Case("resnet50", 0.403),
    Case("cifar_resnet20", 0.5),
    Case("mobilenet_v2", 0.55),
)


def measure(case: Case, seconds: float) -> dict[str, Any]:
    """One network's rows, and what follows from them."""
    result = bench(case.model, "dual", case.macs, threads=case.threads, seconds=seconds, seed=0)
    print(f"\n{case.model}, {case.threads} thread(s)")
    for row in result.rows:
        time = f"{row.median_ms:9.3f} ms ({row.p20_ms:.3f} - {row.p80_ms:.3f})" if row.median_ms else row.failed
        print(f"  {row.label:<18} {time}")
    print(sentences(result))
    return result.as_data()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing per network (default: %(default)s)")
    parser.add_argument("--only", help="these models, separated by commas (default: all); nothing is recorded")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else [case.model for case in GRID]
    results = [measure(case, arguments.seconds) for case in GRID if case.model in chosen]
    if not arguments.only:
        print(f"\nrecorded in {record('engine', {'cases': results})}")


if __name__ == "__main__":
    main()
