"""How much memory a process needs for a network in each precision: weights, maps, and what loading takes.

    python benchmarks/precision_memory.py

Dense networks with random weights, one thread, batch 1, 224x224. It is the peak of a process that loads the .cgm file
and runs it on one image, less that of one that only imports the engine. The record is `results/precision_memory.json`.
"""

from typing import Any

import torch
from bf16 import memory
from records import record

import convgate
from convgate.models import create_model

SIZE = 224
NETWORKS = ("resnet18", "resnet50", "mobilenet_v2")


def row(name: str) -> dict[str, Any]:
    """One network's, in MB, and as shares of float32's."""
    network, images = create_model(name).eval(), torch.randn(4, 3, SIZE, SIZE)
    engines = {p: convgate.compile(network, images[:1], threads=1, precision=p) for p in ("float32", "bf16")}
    engines["int8"] = convgate.quantize(network, [images], threads=1)
    each = {precision: memory(engine, SIZE) for precision, engine in engines.items()}
    shares = {precision: round(n / each["float32"], 3) for precision, n in each.items()}
    return {"network": name, "mb": {precision: round(n / 1e6, 1) for precision, n in each.items()}, "shares": shares}


def main() -> None:
    """Measure and record."""
    torch.manual_seed(0)
    rows = []
    for name in NETWORKS:
        rows.append(row(name))
        print(rows[-1], flush=True)
    print(f"recorded in {record('precision_memory', {'rows': rows})}")


if __name__ == "__main__":
    main()
