"""Real handwritten digits on cluttered canvases: a small task with easy and hard images, and nothing to download.

Most of an image is background, so a spatial gate has something to skip; and the images differ in difficulty, which is
recorded, so an input-dependent gate has something to learn.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convgate.data.images import ImageSet, Splits
from convgate.data.sprites import bars, fragments, glyphs, place, spots
from convgate.data.stratify import stratified_split
from convgate.errors import InputError

__all__ = ["digits", "read_scans", "scan_splits"]

MIN_SIZE = 24
CHUNK = 256  # images drawn together: small enough to stay in the cache
SHAPES = 400  # sprites of each kind to choose the clutter from
MAX_CLUTTER = 8  # shapes on the hardest image
Range = tuple[float, float]


def digits(
    size: int = 48,
    train: int = 8000,
    validation: int = 2000,
    test: int = 3000,
    seed: int = 0,
    clutter: float = 1.0,
) -> Splits:
    """Handwritten digits, scaled, turned and placed at random on colour canvases.

    The three splits share no scan, neither as a digit nor as clutter. Each image has a difficulty, uniform in
    [0, clutter]: it governs how many shapes there are and how like the digit, the contrast, the noise, and how far
    the digit is scaled and turned. The digit takes a third to a half of the canvas side. The same arguments give the
    same images (to a grey level, between machines).

    Args:
        size: height and width in pixels, 24 or more.
        train: number of training images.
        validation: number of validation images.
        test: number of test images.
        seed: seed of everything random, 0 or more.
        clutter: the greatest difficulty, from 0 (plain digits) to 1.

    """
    least = {"size": MIN_SIZE, "train": 1, "validation": 1, "test": 1, "seed": 0}
    for (name, low), value in zip(least.items(), (size, train, validation, test, seed), strict=True):
        if value < low:
            raise InputError(f"{name} is {value}: give {low} or more.")
    if not 0 <= clutter <= 1:
        raise InputError(f"clutter is {clutter}: it must lie in [0, 1], 0 for plain digits.")
    scans, targets = read_scans()
    drawn = {}
    streams = np.random.SeedSequence(seed).spawn(3)
    for stream, n, (part, chosen) in zip(streams, (train, validation, test), scan_splits(seed).items(), strict=True):
        drawn[part] = _draw_split(scans[chosen], targets[chosen], n, size, clutter, np.random.default_rng(stream))
    mean, std = _statistics(drawn["train"][0])
    whole = partial(ImageSet, classes=tuple("0123456789"), mean=mean, std=std)
    parts = {part: whole(images, labels, difficulty=hard) for part, (images, labels, hard) in drawn.items()}
    return Splits("digits", **parts)


def scan_splits(seed: int) -> dict[str, np.ndarray]:
    """Which of the 1797 scans each split draws from: 60, 20 and 20 %, and so of each class."""
    digit = read_scans()[1]
    # Apart from the streams of the images, which are spawned.
    state = int(np.random.SeedSequence(seed).generate_state(1)[0])
    train, rest = stratified_split(digit, 0.4, state)
    validation, test = stratified_split(digit[rest], 0.5, state)
    return {"train": train, "validation": rest[validation], "test": rest[test]}


@cache
def read_scans() -> tuple[np.ndarray, np.ndarray]:
    """Scans [1797, 8, 8] of values 0..16, and their digits int64 [1797]; source and licence: digits.txt."""
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        return file["images"].astype(np.float64), file["digits"].astype(np.int64)


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixel values scaled to [0, 1]."""
    # From counts of the 256 levels: exact, and without a float copy of all the pixels.
    counts = torch.stack([torch.bincount(plane.flatten(), minlength=256) for plane in images.unbind(1)]).double()
    share, level = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
    mean = share @ level
    std = (share @ level.square() - mean.square()).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def _draw_split(
    scans: np.ndarray, targets: np.ndarray, n: int, size: int, clutter: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and difficulty of one split, drawn from its own scans alone."""
    # Whole rounds through the scans: each is used equally often, give or take one.
    order = np.concatenate([rng.permutation(len(scans)) for _ in range(-(-n // len(scans)))])[:n]
    difficulty = torch.from_numpy(rng.uniform(0, clutter, n).astype(np.float32))
    masks = glyphs(scans)
    shapes = [spots(SHAPES, rng), bars(SHAPES, rng), fragments(masks, rng)]
    images = torch.empty(n, 3, size, size, dtype=torch.uint8)
    for at in range(0, n, CHUNK):
        part = slice(at, at + CHUNK)
        images[part] = _draw(masks[order[part]], shapes, difficulty[part], size, rng)
    return images, torch.from_numpy(targets[order]), difficulty


def _draw(digit: Tensor, shapes: list[Tensor], hard: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """One image for each digit mask [n, 1, S, S] and difficulty [n]: uint8 [n, 3, size, size]."""
    n = len(digit)
    ground = _uniform(rng, 0.2, 0.8, n)
    # Towards the roomier side, so that a strong contrast is not clipped.
    side = torch.where(ground < 0.5, 1.0, -1.0)
    ink = ground + side * _between(rng, hard, easiest=(0.42, 0.55), hardest=(0.24, 0.34))
    ground_colour, ink_colour = _tinted(ground, rng), _tinted(ink, rng)

    field = torch.from_numpy(rng.standard_normal((n, 3, 4, 4), dtype=np.float32)) * _pixelwise(0.015 + 0.06 * hard)
    canvas = ground_colour + F.interpolate(field, size=(size, size), mode="bicubic", align_corners=False)
    count = (hard * MAX_CLUTTER + _uniform(rng, 0, 1, n)).floor()
    for k in range(MAX_CLUTTER):
        on = (count > k).nonzero().flatten()
        if len(on):
            like = _uniform(rng, 0, 0.7, len(on)) * hard[on]
            colour = _tinted(ground[on] + _uniform(rng, -0.35, 0.35, len(on)), rng)
            colour = torch.lerp(colour, ink_colour[on], _pixelwise(like))
            canvas[on] = torch.lerp(canvas[on], colour, _clutter(shapes[k % len(shapes)], len(on), size, rng))
    width = _between(rng, hard, easiest=(0.42, 0.5), hardest=(0.34, 0.5))
    turn = _between(rng, hard, easiest=(-0.1, 0.1), hardest=(-0.35, 0.35))
    room = (1 - width)[:, None]
    centre = torch.stack([_uniform(rng, -1, 1, n), _uniform(rng, -1, 1, n)], 1) * room
    squeeze = _between(rng, hard, easiest=(0.95, 1.0), hardest=(0.8, 1.0))
    canvas = torch.lerp(canvas, ink_colour, place(digit, width * squeeze, width, centre, turn, size))
    noise = torch.from_numpy(rng.standard_normal(tuple(canvas.shape), dtype=np.float32))
    canvas = canvas + noise * _pixelwise(0.01 + 0.04 * hard)
    return (canvas * 255).round_().clamp_(0, 255).to(torch.uint8)


def _clutter(shapes: Tensor, n: int, size: int, rng: np.random.Generator) -> Tensor:
    """Masks [n, 1, size, size] of one shape each, anywhere on the canvas."""
    chosen = shapes[rng.integers(len(shapes), size=n)]
    width = _uniform(rng, 0.3, 0.55, n)
    height = width * _uniform(rng, 0.8, 1.2, n)
    centre = torch.stack([_uniform(rng, -1, 1, n), _uniform(rng, -1, 1, n)], 1)
    return place(chosen, width, height, centre, _uniform(rng, -np.pi, np.pi, n), size)


def _uniform(rng: np.random.Generator, low: float, high: float, n: int) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, n).astype(np.float32))


def _between(rng: np.random.Generator, hard: Tensor, *, easiest: Range, hardest: Range) -> Tensor:
    """Uniform draws [n] from a range that moves from `easiest` to `hardest` with the difficulty [n]."""
    low, high = (a + (b - a) * hard for a, b in zip(easiest, hardest, strict=True))
    return low + (high - low) * _uniform(rng, 0, 1, len(hard))


def _tinted(grey: Tensor, rng: np.random.Generator) -> Tensor:
    """Colours [n, 3, 1, 1] whose channels average to grey [n], short of black and white."""
    tint = _uniform(rng, -0.18, 0.18, 3 * len(grey)).view(-1, 3)
    return (grey[:, None] + tint - tint.mean(1, keepdim=True)).clamp(0.04, 0.96)[:, :, None, None]


def _pixelwise(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
