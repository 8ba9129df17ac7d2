"""Street scenes on CamVid: a dense segmenter, the same one at a share of its MACs, and how fast both run.

An EfficientNet-Lite0 trained on ImageNet, a pyramid of residual blocks on it, 11 classes at 480 x 360. The images and
the weights are not part of this project; nothing of them is written but networks and numbers.

    python benchmarks/camvid.py dense --images FOLDER --weights FILE --out OUT [--epochs 120]
    python benchmarks/camvid.py finetuned --images FOLDER --out OUT [--minutes 30] [--budget 0.5]
    python benchmarks/camvid.py gated --images FOLDER --out OUT [--epochs 80] [--budget 0.5]
    python benchmarks/camvid.py judge --images FOLDER --out OUT
    python benchmarks/camvid.py speed --images FOLDER --out OUT --network finetuned

FOLDER holds train, val, test (images) and train_labels, val_labels, test_labels (PNG, 11 is unlabelled). `finetuned` is
`convgate.finetune`: channels close for good. `gated` learns gates that decide for each image and tile. A stage goes on
from what an earlier call left in OUT; an epoch's random draws follow from its number. Nothing is chosen on the test
images, which `judge` and `speed` alone read; the last weights are the ones that count.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

import convgate
from convgate.finetuning import Budget, distillation
from convgate.finetuning.anneal import set_noise
from convgate.finetuning.settings import Settings

CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
UNLABELLED = 11
SIZE = (360, 480)
CROP = (288, 384)
NETWORKS = ("finetuned", "gated")
TILES = {180: 8, 90: 4, 45: 3, 23: 2, 12: 1}
"""Height of a branch's map -> the side of its tiles."""


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(x + y)


class Segmenter(nn.Module):
    """Logits [N, 11, H, W] for images [N, 3, H, W], H and W of at least 32."""

    def __init__(self, channels: int = 64, blocks: tuple[int, ...] = (2, 2, 1)) -> None:
        super().__init__()
        import timm

        self.encoder = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4))
        widths = self.encoder.feature_info.channels()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels)) for width in widths
        )
        self.levels = nn.ModuleList(nn.Sequential(*(Residual(channels) for _ in range(n))) for n in blocks)
        self.classify = nn.Conv2d(channels, len(CLASSES), 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [lateral(map_) for lateral, map_ in zip(self.lateral, self.encoder(x), strict=True)]
        y = maps.pop()
        for level in reversed(self.levels):
            shallower = maps.pop()
            y = F.interpolate(y, size=shallower.shape[2:], mode="bilinear", align_corners=False)
            y = level(F.relu(y + shallower))
        return F.interpolate(self.classify(y), size=x.shape[2:], mode="bilinear", align_corners=False)


# -- data --------------------------------------------------------------------------------------------------------------


def read(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """The images of a split, uint8 [N, 3, H, W], and their labels, uint8 [N, H, W]."""
    paths = sorted(p for p in (folder / split).iterdir() if p.suffix in (".webp", ".png", ".jpg"))
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    labels = [np.asarray(Image.open(folder / f"{split}_labels" / f"{path.stem}.png")) for path in paths]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(labels))


def prepared(images: Tensor) -> Tensor:
    """As the encoder was trained: from -1 to 1."""
    return images.float() / 127.5 - 1


def augmentation(crop: tuple[int, int]) -> v2.Transform:
    """One for images and labels."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(crop, scale=(0.25, 1.0), ratio=(1.2, 1.5), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.3, 0.05),
        ]
    )


def batches(
    images: Tensor, labels: Tensor, size: int, epoch: int, crop: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of augmented batches, which follows from its number."""
    torch.manual_seed(1000 + epoch)
    yield from drawn(images, labels, size, crop)


def drawn(images: Tensor, labels: Tensor, size: int, crop: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of augmented batches, drawn from torch's global generator."""
    augment = augmentation(crop)
    order = torch.randperm(len(images))
    for start in range(0, len(order) - size + 1, size):
        pairs = [augment(tv_tensors.Image(images[i]), tv_tensors.Mask(labels[i])) for i in order[start : start + size]]
        yield prepared(torch.stack([image for image, _ in pairs])), torch.stack([mask for _, mask in pairs]).long()


def class_weights(labels: Tensor) -> Tensor:
    """The rarer the heavier: the root of the median frequency over a class's own."""
    counts = torch.bincount(labels.flatten().long(), minlength=UNLABELLED + 1)[:UNLABELLED].double()
    return (counts.median() / counts).sqrt().float()


# -- judging -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def judge(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Mean IoU over the classes, by class, and of a gated network the mean share of the MACs."""
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(len(CLASSES), average="none", ignore_index=UNLABELLED)
    shares = []
    model.eval()
    for image, label in zip(images, labels, strict=True):
        x = prepared(image[None])
        if isinstance(model, convgate.GatedNetwork):
            logits, decisions = model.decide(x)
            shares += model.cost(decisions).ratio.tolist()
        else:
            logits = model(x)
        metric.update(logits.argmax(1), label[None].long())
    by_class = metric.compute().tolist()
    found = {"miou": 100 * sum(by_class) / len(by_class), "by_class": dict(zip(CLASSES, by_class, strict=True))}
    return found | ({"share": sum(shares) / len(shares)} if shares else {})


# -- training ----------------------------------------------------------------------------------------------------------


class Training:
    """A stage that goes on where it stopped: epochs of batches, a cosine to 0 after a short warm-up."""

    def __init__(self, name: str, options: argparse.Namespace, model: nn.Module, groups: list[dict[str, Any]]) -> None:
        self.path, self.options, self.model = options.out / f"{name}.resume.pt", options, model
        self.optimiser = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
        self.first, self.rates = 0, [group["lr"] for group in groups]
        self.name, self.extra = name, {}

    def resume(self) -> None:
        """Take up what an earlier call left."""
        if not self.path.is_file():
            return
        state = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.first, self.extra = state["epoch"], state["extra"]
        print(f"{self.name}: goes on after epoch {self.first}", flush=True)

    def keep(self, epoch: int) -> None:
        """Write all that is needed to go on, complete or not at all."""
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "epoch": epoch}
        torch.save(state | {"extra": self.extra}, self.path.with_suffix(".tmp"))
        os.replace(self.path.with_suffix(".tmp"), self.path)

    def step(self, loss: Tensor, progress: float) -> None:
        """One step of the optimiser; `progress` is the share of the training that is done."""
        rise = min(1.0, progress / 0.02 + 0.02)
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * rise * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimiser.step()


def train_dense(options: argparse.Namespace) -> None:
    """The dense network, from an encoder trained on ImageNet."""
    from safetensors.torch import load_file, save_file

    images, labels = read(options.images, "train")
    torch.manual_seed(0)
    model = Segmenter()
    missing, _ = model.encoder.load_state_dict(load_file(options.weights), strict=False)
    if missing:
        raise SystemExit(f"{options.weights} lacks {', '.join(missing[:3])}")
    model = model.to(memory_format=torch.channels_last)
    encoder = list(model.encoder.parameters())
    others = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    groups = [{"params": encoder, "lr": options.lr / 4}, {"params": others, "lr": options.lr}]
    training = Training("dense", options, model, groups)
    training.resume()
    weights, steps = class_weights(labels), len(images) // options.batch
    for epoch in range(training.first, options.epochs):
        start, losses = time.time(), []
        model.train()
        for number, (x, y) in enumerate(batches(images, labels, options.batch, epoch, options.crop)):
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
                logits = model(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), y, weights, ignore_index=UNLABELLED)
            training.step(loss, (epoch * steps + number) / (options.epochs * steps))
            losses.append(loss.item())
            if options.steps and number + 1 >= options.steps:
                break
        training.keep(epoch + 1)
        say(options, "dense", epoch, losses, start, model)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, options.out / "dense.safetensors"
    )


def train_gated(options: argparse.Namespace) -> None:
    """The gated network: it learns from labels and from the dense one, and comes down to its budget."""
    images, labels = read(options.images, "train")
    teacher = dense(options.out)
    torch.manual_seed(0)
    method = convgate.DualGating(budget=options.budget, tile=TILES, masks="equal", counted="noise_free")
    net = convgate.gate(teacher, method, torch.zeros(1, 3, *SIZE))
    print(net.plan.summary(), flush=True)
    net = net.to(memory_format=torch.channels_last).train()
    own = {id(p) for p in net.gate_parameters()}
    groups = [
        {"params": [p for p in net.parameters() if id(p) not in own], "lr": options.lr / 4},
        {"params": list(net.gate_parameters()), "lr": options.gate_lr, "weight_decay": 0.0},
    ]
    training, budget = Training("gated", options, net, groups), Budget(options.budget)
    training.resume()
    if training.extra:
        budget.load_state_dict(training.extra["budget"])
    weights, steps = class_weights(labels), len(images) // options.batch
    held = int(options.epochs * 0.8)
    for epoch in range(training.first, options.epochs):
        start, losses, shares = time.time(), [], []
        if epoch == held:
            calibrated(net, images[: options.steps], options.budget)
        for p in net.gate_parameters():
            p.requires_grad_(epoch < held)
        net.train()
        for number, (x, y) in enumerate(batches(images, labels, options.batch, epoch, options.crop)):
            progress = (epoch * steps + number) / (options.epochs * steps)
            set_noise(net, 0.5 * max(0.0, 1 - progress / 0.6), 1.0)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
                logits, decisions = net.decide(x)
                with torch.no_grad():
                    theirs = teacher(x)
            task = F.cross_entropy(logits.float(), y, weights, ignore_index=UNLABELLED)
            loss = task + distillation(logits[..., 1::4, 1::4], theirs[..., 1::4, 1::4])
            if epoch < held:
                loss = loss + budget.term(net, decisions, loss, min(progress / 0.8, 1.0))
            training.step(loss, progress)
            losses.append(task.item())
            shares.append(net.cost(decisions.detach()).ratio.double().mean().item())
            if options.steps and number + 1 >= options.steps:
                break
        training.extra = {"budget": budget.state_dict()}
        training.keep(epoch + 1)
        say(options, "gated", epoch, losses, start, net, f", {np.mean(shares):.3f} of the MACs ({budget})")
    net.eval()
    calibrated(net, images[: options.steps], options.budget)
    save_gated(net, options.out / "gated.safetensors")


class _Drawn:
    """Augmented batches, drawn anew in each pass."""

    def __init__(self, images: Tensor, labels: Tensor, options: argparse.Namespace) -> None:
        self.given = images, labels, options.batch, options.crop

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return drawn(*self.given)


def finetune_dense(options: argparse.Namespace) -> None:
    """Channels close for good, and the weights learn from the dense network and, as much, from labels."""
    images, labels = read(options.images, "train")
    judged, wanted = (part[: options.steps] for part in read(options.images, "val"))
    net = convgate.gate(
        dense(options.out), convgate.DualGating(masks="equal", where="everywhere"), torch.zeros(1, 3, *SIZE)
    )
    print(net.plan.summary(), flush=True)
    result = convgate.finetune(
        net,
        _Drawn(images, labels, options),
        budget=options.budget,
        minutes=options.minutes,
        labels=True,
        held_out=[(prepared(x), y.long()) for x, y in zip(judged.split(4), wanted.split(4), strict=True)],
        calibrated_on=[prepared(x) for x in images[::3][: options.steps].split(4)],
        out=options.out / "finetuning",
        settings=Settings(label_weight=options.label_weight, lr=options.finetune_lr),
        say=lambda line: print(line, flush=True),
    )
    save_gated(result.network, options.out / "finetuned.safetensors")


class _Prepared:
    """Images as batches of a network, as often as they are read."""

    def __init__(self, images: Tensor, size: int = 4) -> None:
        self.images, self.size = images, size

    def __iter__(self) -> Iterator[Tensor]:
        return (prepared(batch) for batch in self.images.split(self.size))


def calibrated(net: convgate.GatedNetwork, images: Tensor, budget: float) -> None:
    """Set the gates' thresholds on every third training image."""
    mode = net.training
    # Every third image, prepared anew in each pass.
    found = convgate.calibrate(net.eval(), _Prepared(images[::3]), budget)
    net.train(mode)
    print(f"calibrated: {found}", flush=True)


def save_gated(net: convgate.GatedNetwork, path: Path) -> None:
    """The network as convgate saves it."""
    from convgate import checkpoint

    checkpoint.save(net, path)


def dense(out: Path) -> Segmenter:
    """The dense network that was trained."""
    from safetensors.torch import load_file

    model = Segmenter()
    model.load_state_dict(load_file(out / "dense.safetensors"))
    return model.eval()


def gated(path: Path) -> convgate.GatedNetwork:
    """A gated network that was trained."""
    from convgate import checkpoint

    return checkpoint.load(path, Segmenter())


def say(
    options: argparse.Namespace,
    name: str,
    epoch: int,
    losses: list[float],
    start: float,
    model: nn.Module,
    more: str = "",
) -> None:
    """A line for each epoch; every tenth one judges the network on the validation images."""
    line = f"{name} {epoch + 1}/{options.epochs}: loss {np.mean(losses):.4f}{more}, {time.time() - start:.0f} s"
    if (epoch + 1) % 10 == 0 or epoch + 1 == options.epochs:
        images, labels = read(options.images, "val")
        line += f", validation mIoU {judge(model, images[: options.steps], labels[: options.steps])['miou']:.2f}"
    print(line, flush=True)


def judge_all(options: argparse.Namespace) -> None:
    """The test images, once."""
    images, labels = read(options.images, "test")
    test = images[: options.steps], labels[: options.steps]
    record: dict[str, Any] = {"images": len(test[0]), "dense": judge(dense(options.out), *test)}
    for name in NETWORKS:
        if (path := options.out / f"{name}.safetensors").is_file():
            record[name] = judge(gated(path), *test)
            record[name]["lost"] = record["dense"]["miou"] - record[name]["miou"]
    (options.out / "judged.json").write_text(json.dumps(record, indent=1))
    print(json.dumps(record, indent=1))


def speed(options: argparse.Namespace) -> None:
    """Both networks in several engines on test images, one at a time."""
    torch.set_num_threads(options.threads)
    if options.network == "finetuned":
        return speed_finetuned(options)
    from convgate.bench.competitors import COMPETITORS
    from convgate.bench.measure import measure
    from convgate.bench.subject import Subject

    images, _ = read(options.images, "test")
    inputs = tuple(prepared(images[i : i + 1]).numpy() for i in range(0, len(images), 30))
    net = gated(options.out / f"{options.network}.safetensors")
    with torch.no_grad():
        macs = [net.cost(net.decide(torch.from_numpy(x))[1]).macs.double().mean().item() for x in inputs]
    subject = Subject(
        "CamVid segmenter",
        net.plan.method,
        dense(options.out),
        net,
        inputs,
        net.ledger.dense,
        float(np.mean(macs)),
        None,
    )
    result = measure(subject, COMPETITORS, threads=options.threads, seconds=options.seconds)
    print(result)
    (options.out / f"speed-{options.network}-{options.threads}.txt").write_text(str(result))


def speed_finetuned(options: argparse.Namespace) -> None:
    """The finetuned network, gated and without what it closes for every image; noted in results/camvid.json."""
    from finetuned import timed
    from records import RESULTS, record

    images, _ = read(options.images, "test")
    inputs = [prepared(images[i : i + 1]).numpy() for i in range(0, len(images), 30)]
    rows = timed(gated(options.out / "finetuned.safetensors").eval(), inputs, options.threads, options.seconds)
    judged = json.loads((options.out / "judged.json").read_text())
    path = RESULTS / "camvid.json"
    known = json.loads(path.read_text())["times"] if path.is_file() else {}
    print(record("camvid", {"judged": judged, "times": {**known, f"{options.threads} threads": rows}}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = {
        "dense": train_dense,
        "finetuned": finetune_dense,
        "gated": train_gated,
        "judge": judge_all,
        "speed": speed,
    }
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--gate-lr", type=float, default=1e-2)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--label-weight", type=float, default=1.0)
    parser.add_argument("--finetune-lr", type=float, default=1e-4)
    parser.add_argument("--network", choices=NETWORKS, default="finetuned", help="which one `speed` times")
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16, on processors that have it")
    parser.add_argument("--crop", type=int, nargs=2, default=CROP, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--steps", type=int, help="at most so many steps an epoch, and images where it judges: to try the script"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    options.epochs = options.epochs or {"dense": 120, "gated": 80}.get(options.stage, 0)
    options.crop = tuple(options.crop)
    options.out.mkdir(parents=True, exist_ok=True)
    stages[options.stage](options)


if __name__ == "__main__":
    main()
