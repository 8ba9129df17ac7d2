"""Images per second in training: a dual-gated ResNet-20 as convgate trains it, a dense one in a plain loop.

The plain loop is what one would write first: eager float32, contiguous tensors, torch.optim.SGD, no Lightning. Both
draw the same uint8 batches and augment them alike. Blocks of steps alternate: convgate's steps run inside
Lightning's loop, and a callback runs the plain steps between them, so both see the same state of the machine.
Compiling is not timed.

    python benchmarks/training_throughput.py [--blocks 12] [--steps 8] [--no-compile]
"""

import argparse
import logging
import time
import warnings
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from records import quantiles, record

from convgate.data import Augmentation, Batches, ImageSet, normalise
from convgate.data.cifar import MEAN, STD
from convgate.gated import gate
from convgate.methods import DualGating
from convgate.models import create
from convgate.recipes.recipe import Hardware
from convgate.recipes.stages import Stage
from convgate.tasks.classification import Classification
from convgate.training.fit import lightning_precision
from convgate.training.module import TrainingModule

BATCH = 128


def plain_loop(images: ImageSet) -> Any:
    """One step of the loop that one would write first, over and over."""
    model = create("cifar_resnet20").train()
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    augmentation, generator = Augmentation(), torch.Generator().manual_seed(0)
    while True:
        for batch, labels in Batches(images, BATCH, shuffle=True, drop_last=True):
            x = normalise(augmentation(batch, generator), MEAN, STD, memory_format=torch.contiguous_format)
            optimiser.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimiser.step()
            yield


class Interleave(L.Callback):
    """After every `steps` steps of Lightning, runs as many plain ones; times both blocks."""

    def __init__(self, plain: Any, steps: int, warmup: int) -> None:
        self.plain, self.steps, self.warmup = plain, steps, warmup
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.seen, self.start = 0, 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen += 1
        if self.seen < self.warmup:
            return
        if self.seen > self.warmup and (self.seen - self.warmup) % self.steps == 0:
            self.ours.append((time.perf_counter() - self.start) / self.steps)
        if (self.seen - self.warmup) % self.steps == 0:
            begin = time.perf_counter()
            for _step in range(self.steps):
                next(self.plain)
            self.theirs.append((time.perf_counter() - begin) / self.steps)
            self.start = time.perf_counter()


def measure(compiled: bool, images: ImageSet, blocks: int, steps: int) -> dict[str, Any]:
    """Both sides' images/s, and the ratio block by block."""
    hardware = Hardware(compile=compiled, accelerator="cpu")
    network = gate(create("cifar_resnet20"), DualGating(), torch.zeros(2, 3, 32, 32)).train()
    network.to(memory_format=torch.channels_last)
    if compiled:
        network.compile()
    module = TrainingModule(network, Stage(epochs=10**6), images, Classification(Augmentation()), method=DualGating())
    plain = plain_loop(images)
    for _ in range(3):
        next(plain)
    interleave = Interleave(plain, steps, warmup=5)
    trainer = L.Trainer(
        max_steps=5 + blocks * steps,
        accelerator="cpu",
        precision=lightning_precision(hardware),
        callbacks=[interleave],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Batches(images, BATCH, shuffle=True, drop_last=True))
    ratios = [theirs / ours for ours, theirs in zip(interleave.ours, interleave.theirs, strict=False)]
    ours, theirs, ratio = quantiles(interleave.ours), quantiles(interleave.theirs), quantiles(ratios)
    return {
        "gated": "compiled" if compiled else "eager",
        "precision": lightning_precision(hardware),
        "gated_images_per_s": round(BATCH / ours["median_s"]),
        "dense_plain_images_per_s": round(BATCH / theirs["median_s"]),
        "ratio": {"median": ratio["median_s"], "p20": ratio["p20_s"], "p80": ratio["p80_s"]},
        "blocks": ratio["n"],
        "steps_per_block": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=12, help="timed blocks of steps (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="steps in a block (default: %(default)s)")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled row, which takes a minute")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    pixels = torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, torch.arange(2048) % 10, tuple("0123456789"), MEAN, STD)
    rows = []
    for compiled in (False,) if arguments.no_compile else (False, True):
        rows.append(measure(compiled, images, arguments.blocks, arguments.steps))
        row = rows[-1]
        print(
            f"gated ({row['gated']}, {row['precision']}): {row['gated_images_per_s']} images/s; plain dense float32: "
            f"{row['dense_plain_images_per_s']} images/s; ratio {row['ratio']['median']:.2f} "
            f"(p20 {row['ratio']['p20']:.2f}, p80 {row['ratio']['p80']:.2f})"
        )
    print(f"recorded in {record('training_throughput', {'batch': BATCH, 'rows': rows})}")


if __name__ == "__main__":
    main()
