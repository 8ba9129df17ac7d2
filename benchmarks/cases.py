"""Networks to be timed in several engines, as `convgate bench` does: one process, the same inputs, engines in turns."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from records import changed_since, read, record

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
    """The same, again for as long as an attempt was disturbed; up to `_ATTEMPTS` times.

    Cores of a virtual machine change places: those that share no cache are another machine. If they do so and come
    back, a row's times are of two kinds. So it is a disturbance if threads took longer than this to share work out,
    before or after, or if the 80th percentile of one of our rows is over 1.4 times its 20th. Which attempt counts does
    not depend on who was faster. The last one counts if none was undisturbed; `cores_before`, `cores_after` and the
    percentiles say so.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        _wait(case.threads, nanoseconds)
        found = measure(case, seconds) | {"attempts": attempt}
        print(f"threads shared work out in {_sharing_ns(found):.0f} ns; widest spread {_spread(found):.2f}", flush=True)
        if not _disturbed(found, nanoseconds):
            break
    return found


def _sharing_ns(found: Mapping[str, Any]) -> float:
    """The slower of before and after."""
    slower: float = max(found["machine"][f"cores_{when}"]["sharing_ns"] for when in ("before", "after"))
    return slower


def _spread(found: Mapping[str, Any]) -> float:
    """The widest one of our rows."""
    ours = [row for row in found["rows"] if row["median_ms"] and row["engine"].startswith("engine-")]
    return max((row["p80_ms"] / row["p20_ms"] for row in ours), default=1.0)


def _disturbed(found: Mapping[str, Any], nanoseconds: float) -> bool:
    return _sharing_ns(found) > nanoseconds or _spread(found) > _SPREAD


def _wait(threads: int, nanoseconds: float) -> None:
    begin = time.monotonic()
    while time.monotonic() - begin < _PATIENCE and 1e9 * seconds_to_share(threads) > nanoseconds:
        time.sleep(1)


def mend(name: str, cases: Sequence[Case], seconds: float, nanoseconds: float) -> list[dict[str, Any]]:
    """A record's cases, those that were disturbed timed again; one that is disturbed again stays as it was.

    What is measured must be what was recorded: the sources as they were.
    """
    recorded = read(name)
    if changed_since(recorded["commit"]):
        raise SystemExit(f"the sources changed since {name} was recorded ({recorded['commit']}): record it anew")
    results = []
    for case, found in zip(cases, recorded["cases"], strict=True):
        if _disturbed(found, nanoseconds):
            again = measure_near(case, seconds, nanoseconds)
            found = found if _disturbed(again, nanoseconds) else again
        results.append(found)
    return results


def main(name: str, cases: Sequence[Case], description: str | None) -> None:
    """Time all cases and record them, or those of some models and record nothing."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing per network (default: %(default)s)")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--only", help="these models, separated by commas (default: all); nothing is recorded")
    some.add_argument("--mend", action="store_true", help="those that were disturbed in the record; needs --near")
    parser.add_argument(
        "--near",
        type=float,
        metavar="NS",
        help="time a case again while its threads take longer than this to share work out, or one of our rows has "
        "times of two kinds (default: once)",
    )
    parser.add_argument("--name", default=name, help="of the record (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.mend:
        if arguments.near is None:
            parser.error("--mend needs --near, which says what a disturbance is")
        results = mend(arguments.name, cases, arguments.seconds, arguments.near)
    else:
        chosen = arguments.only.split(",") if arguments.only else [case.model for case in cases]
        measured = measure if arguments.near is None else partial(measure_near, nanoseconds=arguments.near)
        results = [measured(case, arguments.seconds) for case in cases if case.model in chosen]
    if not arguments.only:
        print(f"\nrecorded in {record(arguments.name, {'cases': results})}")
