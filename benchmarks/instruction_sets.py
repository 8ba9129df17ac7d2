"""How long does a network take in each precision, on each instruction set that this machine has?

    python benchmarks/instruction_sets.py [--seconds 20] [--threads 1]

Processors differ in what they have for bfloat16 and 8-bit integers; a machine that has all of it can run each table of
kernels that a smaller one would choose (`isa=`). Weights and images are random, gates are calibrated, and all engines
of a network take turns, dense and gated. The tables that any processor can run (portable, scalar) are left out.
Written to `results/instruction_sets.json`.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from records import quantiles, record
from rich.console import Console
from rich.progress import Progress, TaskID

import convgate
from convgate.bench.subject import Subject, prepare
from convgate.engine import Engine, instruction_sets

NETWORKS = (("resnet18", 0.43), ("mobilenet_v2", 0.55), ("cifar_resnet20", 0.5))
PRECISIONS = ("float32", "bf16", "int8")
LEFT_OUT = ("portable", "scalar")
LEAST_SECONDS = 2e-3  # of a measurement: calls of a small network are timed together


def engines(subject: Subject, threads: int) -> Iterator[tuple[dict[str, str], Engine]]:
    """Each engine of a network, and what it is."""
    images = torch.from_numpy(np.concatenate(subject.inputs))
    for kind, network in (("dense", subject.dense), ("gated", subject.network)):
        whole = convgate.compile(network, images[:1], threads=threads).program
        integers = convgate.quantize(network, [images], threads=threads).program
        for precision in PRECISIONS:
            for isa in instruction_sets(precision):
                if isa in LEFT_OUT:
                    continue
                engine = Engine(
                    integers if precision == "int8" else whole,
                    threads=threads,
                    isa=isa,
                    precision="bf16" if precision == "bf16" else None,
                )
                yield {"kind": kind, "precision": precision, "isa": isa}, engine


def measured(subject: Subject, threads: int, seconds: float, show: Callable[[float], None]) -> list[dict[str, Any]]:
    """Median and quantiles of each engine's time for an image, of calls that took turns."""
    found = list(engines(subject, threads))
    times: list[list[float]] = [[] for _ in found]
    calls = []
    for _, engine in found:
        engine(subject.inputs[0])
        begin = time.perf_counter()
        engine(subject.inputs[0])
        calls.append(max(1, round(LEAST_SECONDS / (time.perf_counter() - begin))))
    begin = time.perf_counter()
    turn = 0
    while (passed := time.perf_counter() - begin) < seconds or turn < len(subject.inputs):
        show(min(passed / seconds, 1.0))
        x = subject.inputs[turn % len(subject.inputs)]
        for (_, engine), several, taken in zip(found, calls, times, strict=True):
            at = time.perf_counter()
            for _ in range(several):
                engine(x)
            taken.append((time.perf_counter() - at) / several)
        turn += 1
    return [{**what, **quantiles(taken)} for (what, _), taken in zip(found, times, strict=True)]


def advance(bars: Progress, bar: TaskID, share: float) -> None:
    """Show which share is done."""
    bars.update(bar, completed=share)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each network")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = []
    for model, macs in NETWORKS:
        subject = prepare(model, macs=macs, seed=0)
        with Progress(console=Console(stderr=True)) as bars:
            bar = bars.add_task(model, total=1.0)
            rows = measured(subject, options.threads, options.seconds, partial(advance, bars, bar))
        ratio = subject.gated_macs / subject.dense_macs
        cases.append({"model": model, "macs_asked": macs, "macs_ratio": ratio, "rows": rows})
        for row in rows:
            print(model, row["kind"], row["precision"], row["isa"], f"{1e3 * row['median_s']:.2f} ms", flush=True)
    print(record("instruction_sets", {"threads": options.threads, "cases": cases}))


if __name__ == "__main__":
    main()
