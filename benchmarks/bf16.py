"""What bfloat16 costs in accuracy, and what it saves in memory: ImageNet networks, dense, in both precisions.

    python benchmarks/bf16.py --photos PHOTOS --weights WEIGHTS [--network mobilenetv2 ..] [--threads 1]

`--photos` has one folder per class, named by its index among the outputs, `--weights` a file for each network;
all photographs are the test, as nothing is chosen. The networks run as the engine has them, all of it native. Memory is
the peak of a process that loads the .cgm file and runs it on one image, less that of one that only imports the engine.
Networks that are named are added to `results/bf16.csv`, or take their row's place.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import torch
from finetune import Prepare, files, networks, read
from memory import peak
from records import RESULTS, build, machine
from safetensors.torch import load_file
from torch import nn

import convgate
from convgate.engine import Engine

TABLE = RESULTS / "bf16.csv"
SIZE, AT_ONCE = 224, 20


def memory(engine: Engine) -> int:
    """Bytes for a network: weights, maps and what loading takes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.cgm"
        engine.save(file)
        return peak("convgate", SIZE, file) - peak("convgate", SIZE)


def row(name: str, options: argparse.Namespace) -> dict[str, object]:
    """One network's accuracy and memory in float32 and bfloat16."""
    model, file, normalisation = networks()[name]
    model.load_state_dict(load_file(options.weights / file))
    network: nn.Module = model.eval()
    example = torch.zeros(1, 3, SIZE, SIZE)
    engines = {p: convgate.compile(network, example, threads=options.threads, precision=p) for p in ("float32", "bf16")}
    prepare = Prepare(*normalisation)
    paths = files(options.photos)
    labels = np.array([int(path.parent.name) for path in paths])
    answers: dict[str, list[np.ndarray]] = {precision: [] for precision in engines}
    for begin in range(0, len(paths), AT_ONCE):
        images = prepare(read(paths[begin : begin + AT_ONCE], SIZE)).numpy()
        for precision, engine in engines.items():
            answers[precision].append(engine(images).argmax(1))
    found = {precision: np.concatenate(parts) for precision, parts in answers.items()}
    plain, half = memory(engines["float32"]), memory(engines["bf16"])
    return {
        "network": name,
        "images": len(paths),
        "top1_float32": round(100 * float((found["float32"] == labels).mean()), 2),
        "top1_bf16": round(100 * float((found["bf16"] == labels).mean()), 2),
        "same_answer": round(100 * float((found["float32"] == found["bf16"]).mean()), 2),
        "mb_float32": round(plain / 1e6, 1),
        "mb_bf16": round(half / 1e6, 1),
        "memory_share": round(half / plain, 3),
        "isa": engines["bf16"].isa,
        "processor": machine()["processor"],
        **build(),
    }


def main() -> None:
    """Measure the networks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", action="append", choices=tuple(networks()))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = {}
    if TABLE.is_file():
        with TABLE.open(newline="") as file:
            rows = {known["network"]: known for known in csv.DictReader(file)}
    for name in options.network or networks():
        rows[name] = {key: str(value) for key, value in row(name, options).items()}
        print(rows[name], flush=True)
        with TABLE.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[name]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows.values())


if __name__ == "__main__":
    main()
