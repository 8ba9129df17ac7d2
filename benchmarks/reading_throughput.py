"""Images per second of reading JPEG files, from a folder and from tar shards, beside those of training.

The files are generated: of ImageNet's usual 500x375 pixels, but smoother than photographs, so they have fewer bytes and
decode sooner. They lie in a temporary folder, so the operating system serves them from memory: what is timed is
opening, decoding, resizing and handing over between processes, not the disk. Training is a dual-gated ResNet-18 at 224
pixels on images in memory, as convgate trains it.

    python benchmarks/reading_throughput.py [--images 256] [--batch 16] [--steps 4]
"""

import argparse
import io
import logging
import os
import tarfile
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from PIL import Image
from records import record

from convgate.data import Augmentation, Batches, ImageSet, imagenet, shards
from convgate.gated import gate
from convgate.methods import DualGating
from convgate.models import create
from convgate.recipes.recipe import Hardware
from convgate.recipes.stages import Stage
from convgate.tasks.classification import Classification
from convgate.training.fit import lightning_precision
from convgate.training.module import TrainingModule

N_SHARDS = 9  # the last one is held out


def jpeg(rng: np.random.Generator) -> bytes:
    """A picture of 500x375 pixels with detail at three scales."""
    layers = [rng.integers(0, 256, (375 // side + 1, 500 // side + 1, 3), np.uint8) for side in (64, 16, 4)]
    large = [np.asarray(Image.fromarray(x).resize((500, 375), Image.Resampling.BICUBIC), np.float32) for x in layers]
    content = io.BytesIO()
    Image.fromarray((0.6 * large[0] + 0.25 * large[1] + 0.15 * large[2]).astype(np.uint8)).save(content, "jpeg")
    return content.getvalue()


def write(root: Path, n: int) -> int:
    """The same `n` images as files in folders and as shards; returns their mean size in bytes."""
    rng = np.random.default_rng(0)
    contents = [jpeg(rng) for _ in range(n)]
    for part in ("train", "val"):
        (root / part / "all").mkdir(parents=True)
    (root / "val" / "all" / "0.jpg").write_bytes(contents[0])
    for k in range(N_SHARDS):
        with tarfile.open(root / f"train-{k}.tar", "w") as shard:
            for i in range(k, n, N_SHARDS):
                (root / "train" / "all" / f"{i:06d}.jpg").write_bytes(contents[i])
                for kind, content in (("jpg", contents[i]), ("cls", b"0")):
                    member = tarfile.TarInfo(f"{i:06d}.{kind}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    return round(sum(map(len, contents)) / n)


def reading(images: ImageSet, batch: int, workers: int) -> float:
    """Images per second of one shuffled pass, the start of the processes included."""
    begin = time.perf_counter()
    n = sum(len(labels) for _, labels in Batches(images, batch, shuffle=True, workers=workers))
    return n / (time.perf_counter() - begin)


class Clock(L.Callback):
    """When each step of training ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())


def training(batch: int, steps: int) -> float:
    """Images per second, by the median step after the first."""
    pixels = torch.randint(0, 256, (2 * batch, 3, 256, 256), dtype=torch.uint8)
    labels = torch.arange(2 * batch) % 10
    images = ImageSet(pixels, labels, tuple("0123456789"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), view=224)
    network = gate(create("resnet18"), DualGating(), torch.zeros(2, 3, 224, 224)).train()
    network.to(memory_format=torch.channels_last)
    module = TrainingModule(
        network, Stage(epochs=10**6), images, Classification(Augmentation(crop="resized")), method=DualGating()
    )
    clock = Clock()
    trainer = L.Trainer(
        max_steps=steps + 1,
        accelerator="cpu",
        precision=lightning_precision(Hardware(accelerator="cpu")),
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Batches(images, batch, shuffle=True, drop_last=True))
    return batch / float(np.median(np.diff(clock.ends)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256, help="generated images (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="images in a batch (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of training (default: %(default)s)")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    load = os.getloadavg()[0]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = write(root, arguments.images)
        sets = {
            "folder": imagenet(root, validation=1).train,
            "shards": shards(root, f"train-{{0..{N_SHARDS - 2}}}.tar", "train-8.tar", validation="train-8.tar").train,
        }
        for name, images in sets.items():
            for workers in (0, 1, 2):
                rows.append(
                    {"from": name, "workers": workers, "images_per_s": reading(images, arguments.batch, workers)}
                )
                print(f"{name}, workers {workers}: {rows[-1]['images_per_s']:.0f} images/s")
    own = training(arguments.batch, arguments.steps)
    print(f"training: {own:.1f} images/s")
    content = {
        "images": arguments.images,
        "batch": arguments.batch,
        "bytes_per_image": size,
        "load_average_before": load,
        "reading": rows,
        "training_images_per_s": own,
    }
    print(f"recorded in {record('reading_throughput', content)}")


if __name__ == "__main__":
    main()
