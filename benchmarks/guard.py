"""Is a layer much slower than it was? Six layers' GMAC/s as shares of what the machine reaches, in each precision.

    python benchmarks/guard.py [--json]

One thread. Each layer is timed within a network of two, so that it writes what the next one reads: bytes, in 8-bit
integers. What the machine reaches is the engine's own speed on a layer that suits it. That would shrink with what it
measures, so it is itself compared with PyTorch's float32 product, and between precisions where the processor has
instructions for them. Floors are half of what an AMD Zen 5 reached, as machines differ and other work disturbs; what
counts is the best of three attempts. Fails if a share is below its floor. Winograd's algorithm takes those of float32
over 1.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from convgate.bench.peak import peak, speed_within
from convgate.engine import instruction_sets

PRECISIONS = ("float32", "bf16", "int8")
ATTEMPTS = 3
FASTER = (("bf16", "avx512bf16", 0.7), ("int8", "avx512vnni", 1.5), ("int8", "avxvnni", 1.2))
"""A precision, a processor's instructions for it, and how many times as fast as float32 it then is at least.

By published tables of instructions, Intel's `vdpbf16ps` makes no more products in a cycle than float32 does.
"""


@dataclass(frozen=True)
class Layer:
    """A convolution, its map's side, and the least share of the peak in each precision."""

    name: str
    build: Callable[[], nn.Conv2d]
    side: int
    floors: tuple[float, float, float]


LAYERS = (
    Layer("3x3, 64 channels, 56x56", lambda: nn.Conv2d(64, 64, 3, padding=1), 56, (0.99, 0.52, 0.51)),
    Layer("3x3, 512 channels, 7x7", lambda: nn.Conv2d(512, 512, 3, padding=1), 7, (0.73, 0.53, 0.59)),
    Layer("3x3, 16 channels, 32x32", lambda: nn.Conv2d(16, 16, 3, padding=1), 32, (0.53, 0.26, 0.27)),
    Layer("1x1, 256 to 64 channels, 56x56", lambda: nn.Conv2d(256, 64, 1), 56, (0.50, 0.48, 0.36)),
    Layer("1x1, 512 to 2048 channels, 7x7", lambda: nn.Conv2d(512, 2048, 1), 7, (0.51, 0.49, 0.50)),
    Layer(
        "3x3 depthwise, 144 channels, 56x56",
        lambda: nn.Conv2d(144, 144, 3, padding=1, groups=144),
        56,
        (0.26, 0.14, 0.05),
    ),
)


def measured() -> list[dict[str, Any]]:
    """What was measured, as shares, each with its floor."""
    reached: dict[str, float] = {}
    best: dict[tuple[str, str], float] = {}
    for _ in range(ATTEMPTS):
        for precision, gmacs in {**peak(1), "PyTorch": matmul()}.items():
            reached[precision] = max(reached.get(precision, 0.0), gmacs)
        for layer in LAYERS:
            for precision in PRECISIONS:
                gmacs = speed_within(layer.build(), layer.side, 1, precision)
                best[layer.name, precision] = max(best.get((layer.name, precision), 0.0), gmacs)
    peaks = [("the peak, of PyTorch's product", "float32", reached["float32"] / reached["PyTorch"], 0.5)]
    for precision, isa, floor in FASTER:
        if instruction_sets(precision)[0] == isa:
            peaks.append(("the peak, of float32's", precision, reached[precision] / reached["float32"], floor))
    layers = [
        (layer.name, precision, best[layer.name, precision] / reached[precision], floor)
        for layer in LAYERS
        for precision, floor in zip(PRECISIONS, layer.floors, strict=True)
    ]
    return [
        {"layer": layer, "precision": precision, "share": round(share, 3), "floor": floor}
        for layer, precision, share, floor in [*peaks, *layers]
    ]


def matmul() -> float:
    """GMAC/s of PyTorch's product of float32 matrices, in the shortest of 10."""
    torch.set_num_threads(1)
    a, b, taken = torch.rand(784, 512), torch.rand(512, 512), []
    for _ in range(10):
        begin = time.perf_counter()
        a @ b
        taken.append(time.perf_counter() - begin)
    return len(a) * b.numel() / min(taken) / 1e9


def main() -> int:
    """Measure, print, and say by the exit status whether all floors hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measured()
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            low = "  too slow" if row["share"] < row["floor"] else ""
            print(f"{row['layer']:36} {row['precision']:8} {row['share']:.2f}, floor {row['floor']}{low}")
    return int(any(row["share"] < row["floor"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
