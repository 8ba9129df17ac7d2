"""Is a layer much slower than it was? Six layers' GMAC/s as shares of what the machine reaches, in each precision.

    python benchmarks/guard.py [--json]

One thread. The floors are half of what an AMD Zen 5 reached, as machines differ and other work disturbs; what counts is
the best of three attempts. Fails if one is below its floor. Winograd's algorithm takes shares in float32 over 1.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from convgate.bench.peak import peak, speed

PRECISIONS = ("float32", "bf16", "int8")
ATTEMPTS = 3


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
    """Each layer's share of the peak in each precision, with its floor."""
    best: dict[tuple[str, str], float] = {}
    for _ in range(ATTEMPTS):
        reached = peak(1)
        for layer in LAYERS:
            for precision in PRECISIONS:
                share = speed(layer.build(), layer.side, 1, precision) / reached[precision]
                best[layer.name, precision] = max(best.get((layer.name, precision), 0.0), share)
    return [
        {"layer": layer.name, "precision": precision, "share": round(best[layer.name, precision], 3), "floor": floor}
        for layer in LAYERS
        for precision, floor in zip(PRECISIONS, layer.floors, strict=True)
    ]


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
            print(f"{row['layer']:36} {row['precision']:8} {row['share']:.2f} of the peak, floor {row['floor']}{low}")
    return int(any(row["share"] < row["floor"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
