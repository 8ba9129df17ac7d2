"""How much memory a process needs for a network in each precision: weights, maps, and what loading takes.

    python benchmarks/precision_memory.py

Dense networks with random weights, one thread, batch 1, 224x224. It is the peak of a process that loads the .cgm file
and runs it on one image, less that of one that only imports the engine. The record is `results/precision_memory.json`.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from memory import peak
from records import record

import convgate
from convgate.models import create_model

SIZE = 224
NETWORKS = ("resnet18", "resnet50", "mobilenet_v2")


def row(name: str, folder: Path) -> dict[str, Any]:
    """One network's, in MB, and as shares of float32's."""
    network, images = create_model(name).eval(), torch.randn(4, 3, SIZE, SIZE)
    engines = {p: convgate.compile(network, images[:1], threads=1, precision=p) for p in ("float32", "bf16")}
    engines["int8"] = convgate.quantize(network, [images], threads=1)
    needed = {}
    for precision, engine in engines.items():
        engine.save(folder / f"{precision}.cgm")
        needed[precision] = peak("convgate", SIZE, folder / f"{precision}.cgm") - peak("convgate", SIZE)
    shares = {precision: round(bytes_ / needed["float32"], 3) for precision, bytes_ in needed.items()}
    return {"network": name, "mb": {p: round(n / 1e6, 1) for p, n in needed.items()}, "shares": shares}


def main() -> None:
    """Measure and record."""
    torch.manual_seed(0)
    rows = []
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(name, Path(folder)))
        print(rows[-1], flush=True)
    print(f"recorded in {record('precision_memory', {'rows': rows})}")


if __name__ == "__main__":
    main()
