"""What 8-bit integers cost in accuracy, by the reference's arithmetic, which kernels repeat to the bit.

    python benchmarks/quantization.py run --cifar cifar10.npz --photos PHOTOS --weights WEIGHTS [--gated NETWORK ..]
    python benchmarks/quantization.py table                # of benchmarks/results/quantization.csv

`--photos` has one folder per class, named by its index among the networks' outputs: every second image of each class
may choose scales (without its label), the others are the test. CIFAR networks are calibrated on 512 training images and
tested on the test images. With `--choose` training images that scales have not seen are judged by instead, so that
rules are compared without the test; such rows are marked. `--gated` are checkpoints of gated CIFAR networks. A row is
added for each network and setting; one that is there is skipped.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cifar import name_of, statistics
from finetune import Prepare, files, of_photographs, read
from records import RESULTS, build, machine, put, rows_of
from safetensors.torch import load_file
from torch import Tensor, nn

import convgate
from convgate.engine import Engine
from convgate.models import create
from convgate.quantization import MeanSquaredError, MinMax, Observer, Percentile
from convgate.weights import load_weights

TABLE = RESULTS / "quantization.csv"
OBSERVERS: dict[str, Observer] = {
    "mse": MeanSquaredError(),
    "minmax": MinMax(),
    "percentile": Percentile(99.99),
}
CIFAR = ("resnet20", "resnet56")


@dataclass
class Subject:
    """A network, batches that choose its scales, and what it is judged by."""

    name: str
    network: nn.Module
    calibration: list[Tensor]
    images: Tensor
    labels: Tensor
    prepare: Prepare


def cifar_images(options: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor]:
    """Images for the scales, images and labels to judge by."""
    data = np.load(options.cifar)
    order = np.random.default_rng(0).permutation(len(data["train_x"]))
    calibration = torch.from_numpy(data["train_x"][order[:512]]).permute(0, 3, 1, 2)
    if options.choose:
        images, labels = (data[key][order[1000:3000]] for key in ("train_x", "train_y"))
    else:
        images, labels = data["test_x"], data["test_y"]
    images, labels = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels).long()
    return calibration, images, labels


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """The networks asked for, one after another."""
    wanted = set(options.only)
    if options.cifar:
        chosen, images, labels = cifar_images(options)

        def subject(name: str, network: nn.Module) -> Subject:
            prepare = Prepare(*statistics(network))
            batches = [prepare(batch) for batch in chosen.split(64)]
            return Subject(f"CIFAR {name}", network, batches, images, labels, prepare)

        for name in CIFAR:
            if not wanted or name in wanted:
                model = create(f"cifar_{name}", shortcut="A").eval()
                load_weights(model, options.weights / f"cifar10-{name}.safetensors", {"linear.": "fc."})
                yield subject(name, model)
        for path in options.gated:
            yield subject(name_of(path), convgate.load(path))
    if options.photos:
        photos = [(path, int(path.parent.name)) for path in files(options.photos)]
        training, judged = photos[::2], photos[1::2]
        if options.choose:
            judged, training = training[::4], [photo for number, photo in enumerate(training) if number % 4]
        images, labels = read([path for path, _ in judged], 224), torch.tensor([label for _, label in judged])
        scales = read([path for path, _ in training[:: len(training) // options.images]], 224)
        for name, (model, file, normalisation) in of_photographs().items():
            if not wanted or name in wanted:
                model.load_state_dict(load_file(options.weights / file))
                prepare = Prepare(*normalisation)
                batches = [prepare(batch) for batch in scales.split(8)]
                yield Subject(name, model.eval(), batches, images, labels, prepare)


def answers(engine: Engine, subject: Subject) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Logits, the share of MACs' counts and the masks for all images."""
    logits, macs, masks = [], [], {}
    for batch in subject.images.split(100):
        run = engine.run(subject.prepare(batch).numpy())
        logits.append(run.outputs[0])
        macs.append(run.macs)
        for name, decision in run.decisions.items():
            masks.setdefault(name, []).append(decision.mask)
    return np.concatenate(logits), np.concatenate(macs), {name: np.concatenate(m) for name, m in masks.items()}


def main() -> None:
    """Add the rows that are missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="add the rows that are missing")
    run.add_argument("--cifar", type=Path)
    run.add_argument("--gated", type=Path, nargs="*", default=[])
    run.add_argument("--photos", type=Path)
    run.add_argument("--weights", type=Path, required=True)
    run.add_argument("--only", nargs="*", default=[], help="these networks; by default all")
    run.add_argument("--observers", nargs="*", default=["mse"], choices=OBSERVERS)
    run.add_argument("--own", action="store_true", help="residual sums have scales of their own, too")
    run.add_argument("--images", type=int, default=100, help="photographs that choose scales")
    run.add_argument("--choose", action="store_true", help="judge by training images")
    run.add_argument("--threads", type=int, default=1)
    commands.add_parser("table", help="print the record as a table")
    options = parser.parse_args()
    if options.command == "table":
        print(markdown())
        return
    if options.gated and not options.cifar:
        parser.error("--gated needs --cifar")
    torch.set_num_threads(options.threads)
    for subject in subjects(options):
        judge(subject, options)


def judge(subject: Subject, options: argparse.Namespace) -> None:
    """One row for each setting that has none."""
    asked = [(observer, tie) for observer in options.observers for tie in ((True, False) if options.own else (True,))]
    judged = "training images" if options.choose else "test images"
    known = {(row["network"], row["observer"], row["shortcuts"], row["judged"]) for row in rows_of(TABLE)}
    asked = [s for s in asked if (subject.name, s[0], "tied" if s[1] else "own", judged) not in known]
    if not asked:
        return
    example = None if isinstance(subject.network, convgate.GatedNetwork) else subject.calibration[0][:1]
    labels = subject.labels.numpy()
    expected, before, masks = answers(convgate.compile(subject.network, example, threads=options.threads), subject)
    for observer, tie in asked:
        begun = time.process_time()
        engine = convgate.quantize(
            subject.network, subject.calibration, observer=OBSERVERS[observer], tie=tie, threads=options.threads
        )
        calibrated = time.process_time()
        logits, macs, decided = answers(engine, subject)
        flipped = sum(int((decided[name] != mask).sum()) for name, mask in masks.items())
        add(
            {
                "network": subject.name,
                "observer": observer,
                "shortcuts": "tied" if tie else "own",
                "judged": judged,
                "images": len(labels),
                "scales_by": sum(len(batch) for batch in subject.calibration),
                "float32": (expected.argmax(1) == labels).mean(),
                "int8": (logits.argmax(1) == labels).mean(),
                "same_answer": (logits.argmax(1) == expected.argmax(1)).mean(),
                "macs_float32": before.mean() / 1e6,
                "macs_int8": macs.mean() / 1e6,
                "decisions_flipped": flipped / max(sum(mask.size for mask in masks.values()), 1),
                "quantize_processor_s": round(calibrated - begun, 1),
                "run_processor_s": round(time.process_time() - calibrated, 1),
                "processor": machine()["processor"],
                **build(),
            }
        )


def add(row: dict[str, object]) -> None:
    """A row to the record."""
    put(TABLE, [row], list(row))
    print(*row.values(), flush=True)


def markdown() -> str:
    """The record as a table."""
    lines = [
        "| network | judged by | ranges | shortcuts | float32 | int8 | difference | same answer | decisions flipped |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows_of(TABLE):
        f32, int8, same, flipped = (
            100 * float(row[key]) for key in ("float32", "int8", "same_answer", "decisions_flipped")
        )
        cells = (
            row["network"],
            f"{row['images']} {row['judged']}",
            row["observer"],
            row["shortcuts"],
            f"{f32:.2f} %",
            f"{int8:.2f} %",
            f"{int8 - f32:+.2f}",
            f"{same:.2f} %",
            f"{flipped:.3f} %" if flipped else "-",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
