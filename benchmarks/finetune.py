"""How much of a trained network is left at 80 and 60 % of its MACs, after minutes of finetuning without labels.

Three ImageNet networks; trained on unlabelled photographs, judged on others that no choice has seen. Every cell of the
table is a run of its own that leaves a JSON record; it is skipped when its record is there, and goes on after a kill:

    python benchmarks/finetune.py --images FOLDER [--more FOLDER ..] --weights FOLDER --out results/finetune

`--images` has one folder per class, named by its index among the network's outputs: every second image of each class is
trained on (without its label), the others are judged by. `--more` are folders of further images to train on. With
`--choose` a quarter of the training images is judged by instead, so that settings are chosen without the others.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import convgate
from convgate.finetuning import finetune
from convgate.finetuning.finetune import Settings

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_TORCHVISION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def networks() -> dict[str, tuple[nn.Module, str, tuple[tuple[float, ...], tuple[float, ...]]]]:
    """Name -> (the network, its file, mean and standard deviation of its inputs)."""
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


class Views:
    """Shuffled batches of random crops and reflections, prepared; their order and crops follow the global seed."""

    def __init__(self, images: Tensor, batch: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.images, self.batch = images, batch
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.images))
        for chosen in order.split(self.batch):
            if len(chosen) < 2:
                return
            yield self.prepare(torch.stack([self._view(self.images[i]) for i in chosen]))

    def prepare(self, images: Tensor) -> Tensor:
        """What the network is given of uint8 images."""
        return (images.float() / 255 - self.mean) / self.std

    def _view(self, image: Tensor) -> Tensor:
        size = image.shape[-1]
        side = int(size * (0.6 + 0.4 * float(torch.rand(()))))
        top, left = (int(torch.randint(size - side + 1, ())) for _ in range(2))
        crop = image[None, :, top : top + side, left : left + side].float()
        view = F.interpolate(crop, size=(size, size), mode="bilinear", antialias=True)[0]
        return view.flip(-1) if float(torch.rand(())) < 0.5 else view


def divide(arguments: argparse.Namespace) -> tuple[list[Path], list[tuple[Path, int]]]:
    """(images to train on, images with labels to judge by)."""
    photos = [(path, int(path.parent.name)) for path in files(arguments.images)]
    training, judged = photos[::2], photos[1::2]
    if arguments.choose:
        judged, training = training[::4], [photo for number, photo in enumerate(training) if number % 4]
    more = [path for folder in arguments.more for path in files(folder)]
    return [path for path, _ in training] + more, judged


def files(folder: Path) -> list[Path]:
    """The images in a folder and below."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)


def main() -> None:
    """Run the cells that have no record yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--more", type=Path, nargs="*", default=[])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=["efficientnet_lite0", "mobilenetv2", "resnet50"])
    parser.add_argument("--budgets", type=float, nargs="*", default=[0.8, 0.6])
    parser.add_argument("--minutes", type=float, nargs="*", default=[15, 60])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--choose", action="store_true", help="judge by a part of the training images")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON, see convgate.finetuning.Settings")
    parser.add_argument("--method", type=json.loads, default={}, help="JSON, options of DualGating")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    training, judged = divide(arguments)
    images = read(training, arguments.size)
    shown = read([path for path, _ in judged], arguments.size)
    labels = torch.tensor([label for _, label in judged])
    for name, (model, file, (mean, std)) in networks().items():
        if name not in arguments.only:
            continue
        from safetensors.torch import load_file

        model.load_state_dict(load_file(arguments.weights / file))
        model.eval()
        views = Views(images, arguments.batch, mean, std)
        held_out = [(views.prepare(x), y) for x, y in zip(shown.split(32), labels.split(32), strict=True)]
        calibrated_on = [views.prepare(x) for x in images[torch.randperm(len(images))[:384]].split(32)]
        for budget in arguments.budgets:
            for minutes in arguments.minutes:
                folder = arguments.out / f"{name}-{arguments.size}-{budget:g}-{minutes:g}min"
                if (folder / "record.json").is_file():
                    continue
                print(f"== {folder.name}: {len(images)} images to train on, {len(labels)} to judge by", flush=True)
                torch.manual_seed(0)
                network = convgate.gate(
                    model, convgate.DualGating(masks="equal", **arguments.method), held_out[0][0][:1]
                )
                settings = Settings(**arguments.settings)
                result = finetune(
                    network,
                    views,
                    budget=budget,
                    minutes=minutes,
                    labels=True,
                    held_out=held_out,
                    calibrated_on=calibrated_on,
                    out=folder,
                    keep=0.0,
                    settings=settings,
                    say=lambda line: print(line, flush=True),
                )
                record = {
                    "network": name,
                    "size": arguments.size,
                    "minutes": minutes,
                    "threads": arguments.threads,
                    "machine": platform.processor() or platform.machine(),
                    "finished": time.strftime("%Y-%m-%d %H:%M"),
                    "settings": asdict(settings),
                    "method": network.plan.method,
                    **result.as_data(),
                }
                (folder / "record.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
