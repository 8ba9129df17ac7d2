"""Networks to be timed in several engines, as `convgate bench` does: one process, the same inputs, engines in turns."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from records import record

from convgate.bench import bench
from convgate.bench.report import sentences


@dataclass(frozen=True)
class Case:
    """A model, what gates it, the share of its MACs to calibrate to (None: what the gates can reach), threads."""

    model: str
    macs: float | None
    threads: int = 2
    method: str = "DualGating"
    options: Mapping[str, Any] = field(default_factory=dict)


def measure(case: Case, seconds: float, near: float | None) -> dict[str, Any]:
    """One network's rows, and what follows from them."""
    how: dict[str, Any] = {"threads": case.threads, "seconds": seconds, "near": near, "seed": 0}
    result = bench(case.model, case.method, case.macs, options=case.options, **how)
    options = "".join(f", {name}={value}" for name, value in case.options.items())
    print(f"\n{case.model}, {case.method}{options}, {case.threads} thread(s)")
    for row in result.rows:
        time = f"{row.median_ms:9.3f} ms ({row.p20_ms:.3f} - {row.p80_ms:.3f})" if row.median_ms else row.failed
        print(f"  {row.label:<19} {time}")
    print(sentences(result), flush=True)
    return result.as_data()


def main(name: str, cases: Sequence[Case], description: str | None) -> None:
    """Time all cases and record them, or those of some models and record nothing."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing per network (default: %(default)s)")
    parser.add_argument("--only", help="these models, separated by commas (default: all); nothing is recorded")
    parser.add_argument(
        "--near",
        type=float,
        metavar="NS",
        help="wait while the threads take longer to share work out, and leave out rounds that ended so",
    )
    parser.add_argument("--name", default=name, help="of the record (default: %(default)s)")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else [case.model for case in cases]
    results = [measure(case, arguments.seconds, arguments.near) for case in cases if case.model in chosen]
    if not arguments.only:
        print(f"\nrecorded in {record(arguments.name, {'cases': results})}")
