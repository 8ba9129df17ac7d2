"""What bfloat16 costs in accuracy, and what it saves in memory: dense ImageNet and gated CIFAR networks.

    python benchmarks/bf16.py --photos PHOTOS --weights WEIGHTS [--network mobilenetv2 ..] [--threads 1]
    python benchmarks/bf16.py --cifar cifar10.npz --gated NETWORK ..

`--photos` has one folder per class, named by its index among the outputs, `--weights` a file for each network; all
photographs are the test, as nothing is chosen; `--gated` are checkpoints, and all test images of CIFAR-10 are theirs.
The networks run as the engine has them, all of it native. Memory is the peak of a process that loads the .cgm file
and runs it on one image, less that of one that only imports the engine. Networks that are named are added to
`results/bf16.csv`, or take their row's place.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cifar import name_of, normalised
from finetune import Prepare, files, networks, read
from memory import needed
from records import RESULTS, build, machine, put
from safetensors.torch import load_file
from torch import Tensor, nn

import convgate
from convgate.engine import Engine

TABLE = RESULTS / "bf16.csv"
SIZE, AT_ONCE = 224, 20


@dataclass
class Subject:
    """A network in both precisions, and what it is judged by: prepared images in batches, labels, the images' side."""

    name: str
    engines: dict[str, Engine]
    batches: Iterator[np.ndarray]
    labels: np.ndarray
    size: int


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """The networks asked for, one after another."""
    for name in (options.network or networks()) if options.photos else ():
        model, file, normalisation = networks()[name]
        model.load_state_dict(load_file(options.weights / file))
        network: nn.Module = model.eval()
        prepare, paths = Prepare(*normalisation), files(options.photos)
        parts = (paths[begin : begin + AT_ONCE] for begin in range(0, len(paths), AT_ONCE))
        batches = (prepare(read(part, SIZE)).numpy() for part in parts)
        labels = np.array([int(path.parent.name) for path in paths])
        yield Subject(name, both(network, torch.zeros(1, 3, SIZE, SIZE), options.threads), batches, labels, SIZE)
    for path in options.gated:
        data, network = np.load(options.cifar), convgate.load(path).eval()
        images = normalised(data["test_x"], network)
        batches = (part.numpy() for part in images.split(AT_ONCE))
        yield Subject(f"CIFAR {name_of(path)}", both(network, None, options.threads), batches, data["test_y"], 32)


def both(network: nn.Module, example: Tensor | None, threads: int) -> dict[str, Engine]:
    """The engine in each precision."""
    return {p: convgate.compile(network, example, threads=threads, precision=p) for p in ("float32", "bf16")}


def memory(engine: Engine, size: int) -> int:
    """See `needed`, of an engine."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.cgm"
        engine.save(file)
        return needed(size, file)


def row(subject: Subject) -> dict[str, object]:
    """One network's accuracy and memory in float32 and bfloat16."""
    engines, labels = subject.engines, subject.labels
    answers: dict[str, list[np.ndarray]] = {precision: [] for precision in engines}
    for batch in subject.batches:
        for precision, engine in engines.items():
            answers[precision].append(engine(batch).argmax(1))
    found = {precision: np.concatenate(parts) for precision, parts in answers.items()}
    plain, half = (memory(engines[precision], subject.size) for precision in ("float32", "bf16"))
    return {
        "network": subject.name,
        "images": len(labels),
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
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--network", action="append", choices=tuple(networks()))
    parser.add_argument("--cifar", type=Path, help="cifar10.npz: test_x, uint8 [N, 32, 32, 3], test_y")
    parser.add_argument("--gated", type=Path, nargs="*", default=[], help="checkpoints of gated CIFAR networks")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if not options.photos and not options.gated:
        parser.error("give --photos and --weights, or --cifar and --gated")
    if bool(options.photos) != bool(options.weights) or (options.network and not options.photos):
        parser.error("--photos, --weights and --network belong together")
    if options.gated and not options.cifar:
        parser.error("--gated needs --cifar")
    torch.set_num_threads(options.threads)
    for subject in subjects(options):
        found = row(subject)
        put(TABLE, [found], ["network"])
        print(found, flush=True)


if __name__ == "__main__":
    main()
