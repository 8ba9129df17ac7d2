"""A gated CIFAR network of 8-bit integers on the 16x16 accelerator's RTL, against the reference and the simulator.

    python benchmarks/verify_rtl.py [--run RUN_FOLDER] [--data cifar10.npz] [--images 2] [--side 16] [--resting 0]

Without a run, the network is untrained and half of all tiles and channels are open, at random: what is compared
does not depend on what was learned. A row goes to benchmarks/results/rtl.csv. Needs: pip install 'convgate[rtl,train]'.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch
from records import RESULTS, build

import convgate
from convgate.hardware import accelerator
from convgate.hardware.rtl import verify
from convgate.models import create

TABLE = RESULTS / "rtl.csv"


def main() -> None:
    """Verify and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="the folder of a finished run")
    parser.add_argument("--data", type=Path, help="CIFAR-10 as .npz (default: noise)")
    parser.add_argument("--model", default="cifar_resnet20", help="without a run (default: %(default)s)")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--side", type=int, default=16, help="of the array")
    parser.add_argument("--resting", type=int, default=0, help="percent of clocks in which memory does nothing")
    options = parser.parse_args()
    if options.data:
        images = torch.from_numpy(np.load(options.data)["test_x"][: 64 + options.images]).permute(0, 3, 1, 2).float()
        images = (images / 255 - 0.47) / 0.25
    else:
        images = torch.randn(64 + options.images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    given = None
    torch.manual_seed(0)
    if options.run:
        from convgate.runs.run import Run

        net = Run.load(options.run, options.data).network()
    else:
        net = convgate.gate(create(options.model).eval(), convgate.DualGating(), images[:2])
    program = convgate.quantize(net.eval(), [images[:64]]).program
    if not options.run:
        rng = np.random.default_rng(0)
        given = {g.name: (rng.random((options.images, *g.shape)) < 0.5).astype(np.uint8) for g in program.gates}
    machine = accelerator("dgnet-ultra96", rows=options.side, columns=options.side)
    start = time.perf_counter()
    found = verify(program, images[64:].numpy(), machine, given, resting=options.resting)
    row = {
        "network": str(options.run or options.model),
        "decisions": "the network's" if options.run else "random",
        "array": f"{options.side}x{options.side}",
        "images": found.images,
        "resting_percent": options.resting,
        "layers_compared": len(found.layers),
        "wrong_results": sum(layer.wrong for layer in found.layers),
        "outputs_equal": found.outputs_equal,
        "counters_compared": found.compared,
        "counters_differing": sum(len(layer.differing) for layer in found.layers),
        "cycles_without_memory_per_image": sum(layer.cycles for layer in found.layers) // found.images,
        "memory_cycles_per_image": sum(layer.memory for layer in found.layers) // found.images,
        "seconds": round(time.perf_counter() - start, 1),
        "commit": build()["commit"],
    }
    for name, value in row.items():
        print(f"{name}: {value}")
    new = not TABLE.exists()
    with TABLE.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    raise SystemExit(not found.passed)


if __name__ == "__main__":
    main()
