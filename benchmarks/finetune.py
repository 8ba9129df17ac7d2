"""How much of a trained network is left at 80 and 60 % of its MACs, after minutes of finetuning without labels.

Three ImageNet networks; trained on unlabelled photographs, judged on others that no choice has seen. Every cell of the
table is a run of its own; it is skipped when its record is there, and one that was killed goes on where it was. Start
it on a quiet machine:

    python benchmarks/finetune.py run --images PHOTOS --more COCO --weights WEIGHTS --out runs/finetune --minutes 60 15
    python benchmarks/finetune.py table                     # of benchmarks/results/finetune_choices.csv

`--images` has one folder per class, named by its index among the network's outputs: every second image of each class is
trained on (without its label), the others are judged by. `--more` are folders of further images to train on. With
`--choose` a quarter of the training images is judged by instead, so that settings are chosen without the others;
`--steps` trains so many steps instead of minutes, which a busy machine does not change. Both go to
benchmarks/results/finetune_choices.csv, all others to finetune.csv, whose tables `measured.py` draws. A row holds
commit, seed, machine, settings, and the processor's seconds.
"""

import argparse
import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from records import RESULTS, add_row, build, machine
from torch import Tensor, nn

import convgate
from convgate.data.cifar import MEAN, STD
from convgate.finetuning import Finetuned, finetune
from convgate.finetuning.settings import Settings
from convgate.weights import load_weights

METHOD = {"masks": "equal", "where": "everywhere"}
SETTINGS = {"points": 0}  # the curve would take minutes that the table does not ask for
TABLE, CHOICES = RESULTS / "finetune.csv", RESULTS / "finetune_choices.csv"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_TORCHVISION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

Network = tuple[nn.Module, str, tuple[tuple[float, ...], tuple[float, ...]]]
"""A network, its file, mean and standard deviation of its inputs."""


def networks() -> dict[str, Network]:
    """All networks that can be finetuned: those for photographs, and one for CIFAR-10."""
    resnet20 = convgate.create_model("cifar_resnet20", shortcut="A")
    return {**of_photographs(), "cifar_resnet20": (resnet20, "cifar10-resnet20.safetensors", (MEAN, STD))}


def of_photographs() -> dict[str, Network]:
    """Networks of ImageNet's classes, by name."""
    import timm
    import torchvision

    return {
        "resnet50": (torchvision.models.resnet50(), "resnet50.safetensors", _TORCHVISION),
        "efficientnet_lite0": (timm.create_model("tf_efficientnet_lite0"), "tf_efficientnet_lite0.safetensors", _HALF),
        "mobilenetv2": (
            timm.create_model("mobilenetv2_100", pad_type="same"),
            "mobilenetv2_100.safetensors",
            _TORCHVISION,
        ),
    }


def read(paths: list[Path], size: int) -> Tensor:
    """The whole pictures, scaled: uint8 [N, 3, size, size]."""
    images = np.empty((len(paths), size, size, 3), np.uint8)
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            images[number] = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
    return torch.from_numpy(images).permute(0, 3, 1, 2)


class Prepare:
    """What a network is given of uint8 images."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))

    def __call__(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std


class Views:
    """Shuffled batches of random crops and reflections, prepared; their order and crops follow the global seed.

    Images are decoded once, a quarter larger than the network takes them. With labels, batches are (images, labels).
    """

    def __init__(self, images: Tensor, size: int, batch: int, prepare: Prepare, labels: Tensor | None = None) -> None:
        self.images, self.size, self.batch, self.prepare, self.labels = images, size, batch, prepare, labels

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.images))
        for chosen in order.split(self.batch):
            if len(chosen) < 2:
                return
            views = self.prepare(torch.cat([self._view(self.images[i]) for i in chosen]))
            yield views if self.labels is None else (views, self.labels[chosen])

    def _view(self, image: Tensor) -> Tensor:
        side = int(image.shape[-1] * (0.65 + 0.35 * float(torch.rand(()))))
        top, left = (int(torch.randint(image.shape[-1] - side + 1, ())) for _ in range(2))
        crop = image[None, :, top : top + side, left : left + side]
        view = F.interpolate(crop, size=(self.size, self.size), mode="bilinear", antialias=True)
        return view.flip(-1) if float(torch.rand(())) < 0.5 else view


def files(folder: Path) -> list[Path]:
    """The images in a folder and below."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)


class Pictures:
    """What is trained on, calibrated on (training photographs, whole) and judged by (with labels)."""

    def __init__(self, options: argparse.Namespace) -> None:
        photos = [(path, int(path.parent.name)) for path in files(options.images)]
        training, judged = photos[::2], photos[1::2]
        if options.choose:
            judged, training = training[::4], [photo for number, photo in enumerate(training) if number % 4]
        own = [path for path, _ in training]
        more = [path for folder in options.more for path in files(folder)]
        self.training = read(own + more, options.size * 5 // 4)  # the first of them are those that have labels
        self.training_labels = torch.tensor([label for _, label in training])
        self.calibrated_on = read(own, options.size)
        self.judged = read([path for path, _ in judged], options.size)
        self.labels = torch.tensor([label for _, label in judged])


def cell(options: argparse.Namespace, pictures: Pictures, name: str, budget: float, minutes: float) -> None:
    """Run one cell, unless its record is there, and add its row."""
    length = f"{options.steps}steps" if options.steps else f"{minutes:g}min"
    folder = options.out / f"{name}-{options.size}-{budget:g}-{length}{options.tag and '-' + options.tag}"
    if (folder / "record.json").is_file():
        return
    print(f"== {folder.name}: {len(pictures.training)} images to train on", flush=True)
    row, result = trained(options, pictures, name, budget, minutes, folder)
    add_row(CHOICES if options.choose or options.steps else TABLE, row)
    (folder / "record.json").write_text(json.dumps({**row, **result.as_data()}, indent=1))


def trained(
    options: argparse.Namespace,
    pictures: Any,
    name: str,
    budget: float,
    minutes: float,
    folder: Path,
    *,
    labelled: bool = False,
) -> tuple[dict[str, Any], Finetuned]:
    """Finetune one network: (its row, what came of it). `labelled` trains on the images alone that have labels."""
    model, file, normalisation = networks()[name]
    load_weights(model, options.weights / file, {"linear.": "fc."})
    model.eval()
    prepare = Prepare(*normalisation)
    torch.manual_seed(options.seed)
    method = convgate.DualGating(**{**METHOD, **options.method})
    network = convgate.gate(model, method, prepare(pictures.judged[:1]))
    size = (options.size, options.size)
    network.preparation = convgate.Preparation(size, size, "bicubic", *normalisation)
    settings = Settings(**{**SETTINGS, **options.settings})
    built = build()  # of the code that runs: by the end the checkout may have moved on
    # What a run took that was killed and goes on, nobody knows.
    continued = (folder / "state.pt").exists()
    begun, used = time.monotonic(), time.process_time()
    labels = pictures.training_labels if labelled else None
    images = pictures.training[: len(pictures.training_labels)] if labelled else pictures.training
    result = finetune(
        network,
        Views(images, options.size, options.batch, prepare, labels),
        budget=budget,
        minutes=None if options.steps else minutes,
        steps=options.steps,
        labels=True,
        held_out=[(prepare(x), y) for x, y in zip(pictures.judged.split(32), pictures.labels.split(32), strict=True)],
        calibrated_on=[prepare(x) for x in pictures.calibrated_on.split(32)],
        out=folder,
        seed=options.seed,
        keep=0.0,
        settings=settings,
        say=lambda line: print(line, flush=True),
    )
    row = {
        "network": name,
        "size": options.size,
        "budget": budget,
        "trained": f"{options.steps}steps" if options.steps else f"{minutes:g}min",
        "judged": "training photographs" if options.choose else "test photographs",
        "images": result.after.images,
        "dense": result.after.teacher_accuracy,
        "accuracy": result.after.accuracy,
        "agreement": result.after.agreement,
        "kl": result.after.kl,
        "share": result.after.share,
        "steps": result.steps,
        "batch": options.batch,
        "seconds": "" if continued else round(time.monotonic() - begun),
        "processor_seconds": "" if continued else round(time.process_time() - used),
        "seed": options.seed,
        "method": json.dumps(options.method),
        "settings": json.dumps(options.settings),
        "threads": options.threads,
        "processor": machine()["processor"],
        "commit": built["commit"],
        "finished": time.strftime("%Y-%m-%d"),
    }
    return row, result


def markdown(path: Path) -> str:
    """The rows of a record, as a table."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    lines = [
        "| network | budget | trained | dense | accuracy | agreement | KL | MACs | settings |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        dense, accuracy, agreement, share = (
            f"{100 * float(row[key]):.1f} %" for key in ("dense", "accuracy", "agreement", "share")
        )
        changed = ", ".join(
            f"{key} {value}" for text in (row["method"], row["settings"]) for key, value in json.loads(text).items()
        )
        lines.append(
            f"| {row['network']}, {row['size']} px | {row['budget']} | {row['trained']} | {dense} | {accuracy} | "
            f"{agreement} | {float(row['kl']):.3f} | {share} | {changed or 'as they are'} |"
        )
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser, *, size: int, threads: int) -> None:
    """What every finetuning of photographs is told."""
    parser.add_argument("--images", type=Path)
    parser.add_argument("--more", type=Path, nargs="*", default=[])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=size)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--seed", type=int, default=0)


def main() -> None:
    """Run the cells that have no record yet, or print the choices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the cells that have no record yet")
    add_arguments(run, size=224, threads=2)
    run.add_argument("--only", nargs="*", default=["mobilenetv2", "efficientnet_lite0", "resnet50"])
    run.add_argument("--budgets", type=float, nargs="*", default=[0.6, 0.8])
    run.add_argument("--minutes", type=float, nargs="*", default=[60])
    run.add_argument("--steps", type=int)
    run.add_argument("--tag", default="", help="added to the run's name")
    run.add_argument("--choose", action="store_true", help="judge by a part of the training images")
    run.add_argument("--settings", type=json.loads, default={}, help="JSON, see convgate.finetuning.settings.Settings")
    run.add_argument("--method", type=json.loads, default={}, help="JSON, options of DualGating")
    commands.add_parser("table", help="print the record of choices as a table")
    options = parser.parse_args()
    if options.command == "table":
        print(markdown(CHOICES))
        return
    if not options.images:
        parser.error("run: give --images")
    torch.set_num_threads(options.threads)
    pictures = Pictures(options)
    for minutes in options.minutes:
        for name in options.only:
            for budget in options.budgets:
                cell(options, pictures, name, budget, minutes)


if __name__ == "__main__":
    main()
