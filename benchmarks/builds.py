"""The engine of this checkout against that of another: do speeds fall?

The other build writes gated networks (random weights, gates calibrated on random images) as .cgm files. A process of
each build loads them, and the two run the same images in turns; what is compared is the ratio of each round.

    python benchmarks/builds.py OTHER_PYTHON COMMIT [--rounds 40] [--threads 2] [--precision bf16|int8] [--out FILE]

OTHER_PYTHON is the interpreter of an environment in which the other build is installed, COMMIT what that was built of.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = (("resnet18", 224, 0.43), ("resnet50", 224, 0.403), ("mobilenet_v2", 224, 0.55), ("cifar_resnet20", 32, 0.5))

WRITE = """
import sys, torch, convgate
from convgate.models import create
folder, name, size, macs, precision = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
torch.manual_seed(0)
model, images = create(name).eval(), torch.randn(4, 3, size, size)
network = convgate.gate(model, convgate.DualGating(), images).eval()
convgate.calibrate(network, [images], macs)
for kind, what in (("dense", model), ("gated", network)):
    if precision == "int8":
        engine = convgate.quantize(what, [images])
    else:
        engine = convgate.compile(what, images[:1], precision=precision)
    engine.save(f"{folder}/{name}-{kind}.cgm")
"""

WORK = """
import json, sys, time
import numpy as np
import convgate.engine
engines, threads = {}, int(sys.argv[1])
for line in sys.stdin:
    path, size, least = json.loads(line)
    if path not in engines:
        engines[path] = convgate.engine.load(path, threads=threads)
    engine = engines[path]
    image = np.random.default_rng(0).standard_normal((1, 3, size, size), np.float32)
    begin = time.perf_counter()
    while time.perf_counter() - begin < least:
        engine(image)
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < least:
        engine(image)
        calls += 1
    print(json.dumps(1e3 * (time.perf_counter() - begin) / calls), flush=True)
"""


class Worker:
    """A process that runs engines of one build."""

    def __init__(self, python: str, threads: int) -> None:
        self.process = subprocess.Popen(
            [python, "-c", WORK, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def milliseconds(self, path: str, size: int, seconds: float = 0.06) -> float:
        """Mean milliseconds per call over `seconds`, after as long a warm-up."""
        self.process.stdin.write(json.dumps([path, size, seconds]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other")
    parser.add_argument("commit")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bf16", "int8"), default="float32")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "builds.json")
    options = parser.parse_args()
    draw, rows = random.Random(0), []
    workers = {"this": Worker(sys.executable, options.threads), "other": Worker(options.other, options.threads)}
    with tempfile.TemporaryDirectory() as folder:
        for name, size, macs in CASES:
            subprocess.run(
                [options.other, "-c", WRITE, folder, name, str(size), str(macs), options.precision], check=True
            )
            for kind in ("dense", "gated"):
                took = {build: [] for build in workers}
                for _ in range(options.rounds):
                    for build in draw.sample(list(workers), 2):
                        took[build].append(workers[build].milliseconds(f"{folder}/{name}-{kind}.cgm", size))
                ratios = sorted(ours / other for ours, other in zip(took["this"], took["other"], strict=True))
                quantiles = statistics.quantiles(ratios, n=5)
                rows.append(
                    {
                        "network": name,
                        "kind": kind,
                        "this_ms": statistics.median(took["this"]),
                        "other_ms": statistics.median(took["other"]),
                        "ratio": statistics.median(ratios),
                        "p20": quantiles[0],
                        "p80": quantiles[3],
                    }
                )
                print(
                    "{network:15} {kind:6} {this_ms:8.3f} {other_ms:8.3f} {ratio:6.3f} ({p20:.3f}, {p80:.3f})".format(
                        **rows[-1]
                    )
                )
    from records import build

    from convgate.timing.machine import machine

    content = {
        "machine": machine(options.threads),
        **build(),
        "other": options.commit,
        "precision": options.precision,
        "rows": rows,
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
