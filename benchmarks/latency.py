"""Time as a budget: is the engine's mean time for an image what was asked for?

    python benchmarks/latency.py [--network cifar_resnet20 ..] [--threads 2] [--clock wall]
    python benchmarks/latency.py --cifar cifar10.npz --gated NETWORK ..

Checkpoints of gated CIFAR networks, or networks with random weights, are calibrated to several times between the
least and the most that their gates allow; each is then compiled and timed on other images, its gates deciding, as a
user would. Training images of CIFAR-10 calibrate and test images are timed; where weights are random, images are,
too. Rows that are measured again take the place of their former ones. On a quiet machine; on a busy one `--threads 1
--clock cpu` tells the time of one thread on its core. The rows, with how far the model of the times was off under
masks that it was not fitted to, go to `results/latency.csv`; `missing` says why a time was not reached.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cifar import name_of, normalised
from records import RESULTS, build, machine, put

import convgate
from convgate.errors import ConvgateError
from convgate.gated import GatedNetwork
from convgate.latency import fit_latency, watch
from convgate.models import create_model

TABLE = RESULTS / "latency.csv"
SETTING = ("network", "threads", "precision", "clock", "isa", "processor")
"""What makes rows those of one measurement."""
NETWORKS = {"cifar_resnet20": 32, "resnet18": 224, "mobilenet_v2": 224}
# Where between every gate closed (0) and open (1) the times lie that are asked for.
ASKED = (0.2, 0.4, 0.6, 0.8)


@dataclass
class Subject:
    """A gated network, images to calibrate on, and others to time."""

    name: str
    network: GatedNetwork
    images: torch.Tensor
    others: torch.Tensor


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """The networks asked for, one after another."""
    count = options.images
    for path in options.gated:
        network = convgate.load(path).eval()
        data = np.load(options.cifar)
        chosen = np.random.default_rng(options.seed).permutation(len(data["train_x"]))[:count]
        images, others = normalised(data["train_x"][chosen], network), normalised(data["test_x"][:count], network)
        yield Subject(name_of(path), network, images, others)
    for name in () if options.gated else options.network:
        torch.manual_seed(options.seed)
        drawn = torch.randn(2 * count, 3, NETWORKS[name], NETWORKS[name])
        method = convgate.DualGating(init="paper", budget=0.5)
        network = convgate.gate(create_model(name).eval(), method, drawn[:1]).eval()
        yield Subject(name, network, drawn[:count], drawn[count:])


def rows(subject: Subject, options: argparse.Namespace) -> list[dict[str, object]]:
    """One network's, a row for each time that is asked for."""
    name, network = subject.name, subject.network
    engine = convgate.compile(network, threads=options.threads, precision=options.precision)
    begin = time.monotonic()
    model = fit_latency(engine, clock=options.clock)
    fitting = time.monotonic() - begin
    least, most = model.range(engine.program)
    others = [np.ascontiguousarray(image[None].numpy()) for image in subject.others]
    alike = {
        "least_ms": round(least, 4),
        "most_ms": round(most, 4),
        "model_error": round(model.error, 4),
        "handed_ms": round(model.handed, 4),
        "fitting_s": round(fitting, 1),
        "images": options.images,
        "threads": engine.threads,
        "precision": str(engine.precision),
        "clock": options.clock,
        "isa": engine.isa,
        **build(),
        "processor": machine()["processor"],
    }

    def row(asked: float) -> dict[str, object]:
        done = convgate.calibrate(
            network,
            subject.images.split(8),
            milliseconds=asked,
            engine=engine,
            latency=model,
            agreement=False,
            tolerance=0.01,
        )
        compiled = convgate.compile(network, threads=engine.threads, precision=options.precision)
        watched = watch(compiled, others, clock=options.clock, seconds=options.seconds)
        print(f"{name}: asked {asked:.3f} ms, took {watched.mean:.3f} ms, off by {watched.mean / asked - 1:+.1%}")
        return {
            "took_ms": round(watched.mean, 4),
            "off": round(watched.mean / asked - 1, 4),
            "spread": round(watched.spread, 4),
            "macs_ratio": round(done.macs, 4),
            "model_factor": round(done.latency.factor, 4) if done.latency else None,
            "passes": done.passes,
        }

    found = []
    for asked in (least + place * (most - least) for place in ASKED):
        try:
            measured = row(asked)
        except ConvgateError as error:  # the other times are worth having
            print(f"{name}: asked {asked:.3f} ms: {error}")
            measured = {"missing": str(error)}
        found.append({"network": name, "asked_ms": round(asked, 4), **measured, **alike})
    return found


def main() -> None:
    """Measure, and put the rows into the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--cifar", type=Path, help="cifar10.npz: train_x, test_x, uint8 [N, 32, 32, 3]")
    parser.add_argument("--gated", type=Path, nargs="*", default=[], help="checkpoints of gated CIFAR networks")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--images", type=int, default=32, help="to calibrate on, and as many others to time")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to time each network at the end")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.gated and not options.cifar:
        parser.error("--gated needs --cifar")
    for subject in subjects(options):
        put(TABLE, rows(subject, options), SETTING)


if __name__ == "__main__":
    main()
