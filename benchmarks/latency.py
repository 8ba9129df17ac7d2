"""Time as a budget: is the engine's mean time for an image what was asked for?

    python benchmarks/latency.py [--network cifar_resnet20 ..] [--threads 2] [--clock wall]

Networks with random weights are calibrated to several times between the least and the most that their gates allow, on
half of the images, random ones; each is then compiled and timed on the other half, its gates deciding, as a user would.
On a quiet machine; on a busy one `--threads 1 --clock cpu` tells the time of one thread on its core. The rows, with how
far the model of the times was off under masks that it was not fitted to, go to `results/latency.csv`.
"""

import argparse
import csv
import time

import numpy as np
import torch
from records import RESULTS, build, machine

import convgate
from convgate.latency import fit_latency, watch
from convgate.models import create_model

TABLE = RESULTS / "latency.csv"
NETWORKS = {"cifar_resnet20": 32, "resnet18": 224, "mobilenet_v2": 224}
# Where between every gate closed (0) and open (1) the times lie that are asked for.
ASKED = (0.2, 0.4, 0.6, 0.8)


def rows(name: str, options: argparse.Namespace) -> list[dict[str, object]]:
    """One network's, a row for each time that is asked for."""
    torch.manual_seed(options.seed)
    images = torch.randn(2 * options.images, 3, NETWORKS[name], NETWORKS[name])
    method = convgate.DualGating(init="paper", budget=0.5)
    network = convgate.gate(create_model(name).eval(), method, images[:1]).eval()
    engine = convgate.compile(network, threads=options.threads, precision=options.precision)
    begin = time.monotonic()
    model = fit_latency(engine, clock=options.clock)
    fitting = time.monotonic() - begin
    least, most = model.range(engine.program)
    found = []
    others = [np.ascontiguousarray(image[None].numpy()) for image in images[options.images :]]
    for place in ASKED:
        asked = least + place * (most - least)
        batches = images[: options.images].split(8)
        done = convgate.calibrate(
            network, batches, milliseconds=asked, engine=engine, latency=model, agreement=False, tolerance=0.01
        )
        compiled = convgate.compile(network, threads=engine.threads, precision=options.precision)
        watched = watch(compiled, others, clock=options.clock, seconds=options.seconds)
        found.append(
            {
                "network": name,
                "asked_ms": round(asked, 4),
                "took_ms": round(watched.mean, 4),
                "off": round(watched.mean / asked - 1, 4),
                "spread": round(watched.spread, 4),
                "macs_ratio": round(done.macs, 4),
                "least_ms": round(least, 4),
                "most_ms": round(most, 4),
                "model_error": round(model.error, 4),
                "model_factor": round(done.latency.factor, 4) if done.latency else None,
                "fitting_s": round(fitting, 1),
                "passes": done.passes,
                "images": options.images,
                "threads": engine.threads,
                "precision": str(engine.precision),
                "clock": options.clock,
                "isa": engine.isa,
                **build(),
                "processor": machine()["processor"],
            }
        )
        print(f"{name}: asked {asked:.3f} ms, took {watched.mean:.3f} ms, off by {watched.mean / asked - 1:+.1%}")
    return found


def main() -> None:
    """Measure, and write the table anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--images", type=int, default=32, help="to calibrate on, and as many others to time")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to time each network at the end")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = [row for name in options.network for row in rows(name, options)]
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
