"""Networks to be timed in several engines, as `convgate bench` does: one process, the same inputs, engines in turns."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from records import record

from convgate.bench import bench
from convgate.bench.report import sentences
from convgate.engine.runtime import seconds_to_share

_ATTEMPTS, _PATIENCE, _SPREAD = 4, 90.0, 1.4


@dataclass(frozen=True)
class Case:
    """A model, what gates it, the share of its MACs to calibrate to (None: what the gates can reach), threads."""

    model: str
    macs: float | None
    threads: int = 2
    method: str = "DualGating"
    options: Mapping[str, Any] = field(default_factory=dict)


def measure(case: Case, seconds: float) -> dict[str, Any]:
    """One network's rows, and what follows from them."""
    result = bench(
        case.model, case.method, case.macs, options=case.options, threads=case.threads, seconds=seconds, seed=0
    )
    options = "".join(f", {name}={value}" for name, value in case.options.items())
    print(f"\n{case.model}, {case.method}{options}, {case.threads} thread(s)")
    for row in result.rows:
        time = f"{row.median_ms:9.3f} ms ({row.p20_ms:.3f} - {row.p80_ms:.3f})" if row.median_ms else row.failed
        print(f"  {row.label:<19} {time}")
    print(sentences(result), flush=True)
    return result.as_data()


def measure_near(case: Case, seconds: float, nanoseconds: float) -> dict[str, Any]:
    """The same, again for as long as threads took longer to share work out, before or after; up to `_ATTEMPTS` times.

    Cores of a virtual machine change places: those that share no cache are another machine. If they do so and come
    back, a row's times are of two kinds: a case is also timed again where the 80th percentile of one of ours is over
    1.4 times its 20th. Which attempt counts does not depend on who was faster. The last one counts if none was
    undisturbed; `cores_before`, `cores_after` and the percentiles say so.
    """
    attempts, ends, spread = 0, [float("inf")], 1.0
    while attempts == 0 or (attempts < _ATTEMPTS and (max(ends) > nanoseconds or spread > _SPREAD)):
        attempts += 1
        _wait(case.threads, nanoseconds)
        found = measure(case, seconds)
        ends = [found["machine"][f"cores_{when}"]["sharing_ns"] for when in ("before", "after")]
        ours = [row for row in found["rows"] if row["median_ms"] and row["engine"].startswith("engine-")]
        spread = max((row["p80_ms"] / row["p20_ms"] for row in ours), default=1.0)
        widest = f"widest spread {spread:.2f}" if ours else "nothing of ours was timed"
        print(f"threads shared work out in {ends[0]:.0f} and {ends[1]:.0f} ns; {widest}", flush=True)
    return found | {"attempts": attempts}


def _wait(threads: int, nanoseconds: float) -> None:
    begin = time.monotonic()
    while time.monotonic() - begin < _PATIENCE and 1e9 * seconds_to_share(threads) > nanoseconds:
        time.sleep(1)


def main(name: str, cases: Sequence[Case], description: str | None) -> None:
    """Time all cases and record them, or those of some models and record nothing."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing per network (default: %(default)s)")
    parser.add_argument("--only", help="these models, separated by commas (default: all); nothing is recorded")
    parser.add_argument(
        "--near",
        type=float,
        metavar="NS",
        help="time a case again while its threads take longer than this to share work out, or one of our rows has "
        "times of two kinds (default: once)",
    )
    parser.add_argument("--name", default=name, help="of the record (default: %(default)s)")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else [case.model for case in cases]
    measured = measure if arguments.near is None else partial(measure_near, nanoseconds=arguments.near)
    results = [measured(case, arguments.seconds) for case in cases if case.model in chosen]
    if not arguments.only:
        print(f"\nrecorded in {record(arguments.name, {'cases': results})}")
