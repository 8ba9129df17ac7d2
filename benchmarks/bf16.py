"""What bfloat16 costs in accuracy, and what it saves in memory: dense ImageNet and gated CIFAR networks.

    python benchmarks/bf16.py --photos PHOTOS --weights WEIGHTS [--network mobilenetv2 ..] [--threads 1]
    python benchmarks/bf16.py --cifar cifar10.npz --gated NETWORK ..

`--photos` has one folder per class, named by its index among the outputs, `--weights` a file for each network; all
photographs are the test, as nothing is chosen; `--gated` are checkpoints, and all test images of CIFAR-10 are theirs.
The networks run as the engine has them, all of it native. Memory is the peak of a process that loads the .cgm file
and runs it on one image, less that of one that only imports the engine. "changed" is the share of decisions, in
percent, that are others than in float32; what ends in "heads" is of `heads=0`: gates' heads in bfloat16, too. Networks
that are named are added to `results/bf16.csv`, or take their row's place.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cifar import name_of, normalised
from finetune import Prepare, files, of_photographs, read
from memory import needed
from records import RESULTS, build, machine, put
from safetensors.torch import load_file
from torch import Tensor, nn

import convgate
from convgate.engine import Engine

TABLE = RESULTS / "bf16.csv"
SIZE, AT_ONCE = 224, 20
HEADS = "bf16 heads"


@dataclass
class Subject:
    """A network in both precisions and, if it is gated, with heads in bfloat16, too; what it is judged by.

    That is prepared images in batches, labels, the images' side.
    """

    name: str
    engines: dict[str, Engine]
    batches: Iterator[np.ndarray]
    labels: np.ndarray
    size: int


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """The networks asked for, one after another."""
    for name in (options.network or of_photographs()) if options.photos else ():
        model, file, normalisation = of_photographs()[name]
        model.load_state_dict(load_file(options.weights / file))
        network: nn.Module = model.eval()
        prepare, paths = Prepare(*normalisation), files(options.photos)
        parts = (paths[begin : begin + AT_ONCE] for begin in range(0, len(paths), AT_ONCE))
        batches = (prepare(read(part, SIZE)).numpy() for part in parts)
        labels = np.array([int(path.parent.name) for path in paths])
        engines = forms(network, torch.zeros(1, 3, SIZE, SIZE), options.threads, dict.fromkeys(("float32", "bf16")))
        yield Subject(name, engines, batches, labels, SIZE)
    for path in options.gated:
        data, network = np.load(options.cifar), convgate.load(path).eval()
        images = normalised(data["test_x"], network)
        batches = (part.numpy() for part in images.split(AT_ONCE))
        engines = forms(network, None, options.threads, {"float32": None, "bf16": None, HEADS: 0})
        yield Subject(f"CIFAR {name_of(path)}", engines, batches, data["test_y"], 32)


def forms(
    network: nn.Module, example: Tensor | None, threads: int, wanted: Mapping[str, int | None]
) -> dict[str, Engine]:
    """The engine in each form, which begins with its precision, and from which size on layers of heads have it."""
    return {
        form: convgate.compile(network, example, threads=threads, precision=form.split()[0], heads=heads)
        for form, heads in wanted.items()
    }


def memory(engine: Engine, size: int) -> int:
    """See `needed`, of an engine."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.cgm"
        engine.save(file)
        return needed(size, file)


def row(subject: Subject) -> dict[str, object]:
    """One network's accuracy, decisions and memory in float32 and bfloat16."""
    engines, labels = subject.engines, subject.labels
    answers: dict[str, list[np.ndarray]] = {form: [] for form in engines}
    changed, decided = dict.fromkeys(engines, 0), 0
    for batch in subject.batches:
        runs = {form: engine.run(batch) for form, engine in engines.items()}
        for form, run in runs.items():
            answers[form].append(run.outputs[0].argmax(1))
            for gate, decision in runs["float32"].decisions.items():
                changed[form] += int((run.decisions[gate].mask != decision.mask).sum())
        decided += sum(decision.mask.size for decision in runs["float32"].decisions.values())
    found = {form: np.concatenate(parts) for form, parts in answers.items()}
    right = {form: round(100 * float((answer == labels).mean()), 2) for form, answer in found.items()}
    plain, half = (memory(engines[form], subject.size) for form in ("float32", "bf16"))
    return {
        "network": subject.name,
        "images": len(labels),
        "top1_float32": right["float32"],
        "top1_bf16": right["bf16"],
        "top1_bf16_heads": right.get(HEADS),
        "same_answer": round(100 * float((found["float32"] == found["bf16"]).mean()), 2),
        "changed": round(100 * changed["bf16"] / decided, 4) if decided else None,
        "changed_heads": round(100 * changed[HEADS] / decided, 4) if HEADS in changed else None,
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
    parser.add_argument("--network", action="append", choices=tuple(of_photographs()))
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
