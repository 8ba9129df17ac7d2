"""Handwritten digits on large cluttered canvases, with their boxes: a detection task with nothing to download.

Most of a canvas is background. A scene is drawn when it is asked for, from (seed, split, number) alone, and is never
kept; so a set may be as long as one likes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convgate.data.digits import read_scans, scan_splits
from convgate.data.images import Splits
from convgate.data.scenes import BoxSet, box_target
from convgate.data.sprites import bars, fragments, glyphs, place, spots
from convgate.errors import InputError

__all__ = ["DigitScenes", "digit_scenes"]

_PATCH = 96
# Side of the patches that sprites are drawn on before they are put onto the canvas.
_NOISE = 160
_SHAPES = 200
_TRIES = 40
_VISIBLE = 0.25


def digit_scenes(
    train: int = 4000,
    validation: int = 200,
    test: int = 500,
    seed: int = 0,
    least: int = 320,
    most: int = 640,
    digits: int = 6,
    clutter: float = 1.0,
) -> Splits:
    """Scenes of 1 to `digits` handwritten digits, 28 to 96 pixels high, that do not overlap, among other shapes.

    Height and width are drawn from [least, most], each by itself. The splits share no scan. The same arguments give the
    same scenes (to a grey level, between machines).

    Args:
        train: number of training scenes.
        validation: number of validation scenes.
        test: number of test scenes.
        seed: seed of everything random, 0 or more.
        least: the smallest height and width, 64 or more.
        most: the largest.
        digits: the most digits in a scene.
        clutter: how many other shapes there are, how faint the digits and how strong the noise, from 0 to 1.

    """
    lowest = {"train": 1, "validation": 1, "test": 1, "seed": 0, "least": 64, "most": least, "digits": 1}
    given = {"train": train, "validation": validation, "test": test, "seed": seed, "least": least, "most": most}
    for name, value in {**given, "digits": digits}.items():
        if value < lowest[name]:
            raise InputError(f"{name} is {value}: give {lowest[name]} or more.")
    if not 0 <= clutter <= 1:
        raise InputError(f"clutter is {clutter}: it must lie in [0, 1], 0 for plain digits.")
    parts = {}
    lengths = {"train": train, "validation": validation, "test": test}
    for number, (part, n) in enumerate(lengths.items()):
        scenes = DigitScenes(n, (seed, number), part, (least, most), digits, clutter)
        parts[part] = BoxSet(scenes, tuple("0123456789"), (0.5,) * 3, (0.25,) * 3)
    return Splits("digit_scenes", **parts)


@dataclass(frozen=True)
class DigitScenes:
    """One split's scenes, by number. `seed` is (the set's, the split's)."""

    n: int
    seed: tuple[int, int]
    part: str
    sides: tuple[int, int]
    digits: int
    clutter: float

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        if not 0 <= index < self.n:
            raise IndexError(index)
        rng = np.random.default_rng((*self.seed, index))
        height, width = (int(side) for side in rng.integers(self.sides[0], self.sides[1] + 1, 2))
        hard = float(rng.uniform(0, self.clutter))
        ground = float(rng.uniform(0.25, 0.75))
        canvas = _canvas(height, width, ground, hard, rng)
        area = height * width / 480**2
        self._add_clutter(canvas, ground, hard, round(area * (4 + 26 * hard) * self.clutter), rng)
        boxes, labels = self._add_digits(canvas, ground, hard, rng)
        # One tile of noise, repeated: drawing as much as there are pixels would take most of the time.
        noise = torch.from_numpy(rng.standard_normal((3, _NOISE, _NOISE), dtype=np.float32)) * (0.01 + 0.04 * hard)
        canvas += noise.repeat(1, -(-height // _NOISE), -(-width // _NOISE))[:, :height, :width]
        return (canvas * 255).round_().clamp_(0, 255).to(torch.uint8), box_target(boxes, labels)

    @cached_property
    def _sprites(self) -> tuple[Tensor, np.ndarray, Tensor]:
        """Digits as masks [M, 1, S, S], which digits they are, and the shapes of the clutter."""
        scans, targets = read_scans()
        chosen = scan_splits(self.seed[0])[self.part]
        masks = glyphs(scans[chosen])
        rng = np.random.default_rng((*self.seed, 2**32))
        return masks, targets[chosen], torch.cat([spots(_SHAPES, rng), bars(_SHAPES, rng), fragments(masks, rng)])

    def _add_clutter(self, canvas: Tensor, ground: float, hard: float, n: int, rng: np.random.Generator) -> None:
        if not n:
            return
        shapes = self._sprites[2]
        sides = rng.integers(24, 97, n)
        chosen = shapes[rng.integers(len(shapes), size=n)]
        patches = _patches(chosen, sides, rng.uniform(-np.pi, np.pi, n), rng.uniform(0.8, 1.2, n))
        for patch, side in zip(patches, sides.tolist(), strict=True):
            top = int(rng.integers(-side // 2, canvas.shape[1] - side // 2))
            left = int(rng.integers(-side // 2, canvas.shape[2] - side // 2))
            _put(canvas, patch, top, left, _tinted(ground + rng.uniform(-0.3, 0.3), rng))

    def _add_digits(
        self, canvas: Tensor, ground: float, hard: float, rng: np.random.Generator
    ) -> tuple[list[list[int]], list[int]]:
        masks, targets, _ = self._sprites
        n = int(rng.integers(1, self.digits + 1))
        numbers = rng.integers(len(masks), size=n)
        most = min(96, min(canvas.shape[1:]) // 2)
        sides = np.round(np.exp(rng.uniform(np.log(28), np.log(most), n))).astype(int)
        turns, squeeze = rng.uniform(-0.3, 0.3, n) * hard, rng.uniform(0.8, 1.0, n)
        boxes: list[list[int]] = []
        labels = []
        for patch, number in zip(_patches(masks[numbers], sides, turns, squeeze), numbers, strict=True):
            rows, columns = ((patch > _VISIBLE).any(axis).nonzero().flatten() for axis in (1, 0))
            patch = patch[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            place_at = _free(boxes, canvas.shape[1:], patch.shape, rng)
            if place_at is None:
                continue
            top, left = place_at
            side = 1.0 if ground < 0.5 else -1.0
            contrast = rng.uniform(0.42 - 0.12 * hard, 0.55 - 0.15 * hard)
            _put(canvas, patch, top, left, _tinted(ground + side * contrast, rng))
            boxes.append([left, top, left + patch.shape[1], top + patch.shape[0]])
            labels.append(int(targets[number]) + 1)
        return boxes, labels


def _canvas(height: int, width: int, ground: float, hard: float, rng: np.random.Generator) -> Tensor:
    """A ground of one colour that changes slowly, float32 [3, H, W]."""
    field = torch.from_numpy(rng.standard_normal((1, 3, 5, 5), dtype=np.float32)) * (0.02 + 0.06 * hard)
    return F.interpolate(field, size=(height, width), mode="bilinear", align_corners=True)[0] + _tinted(ground, rng)


def _patches(sprites: Tensor, sides: np.ndarray, turns: np.ndarray, squeeze: np.ndarray) -> list[Tensor]:
    """Each sprite as a mask [side, side] in [0, 1], turned (radians) and made narrower."""
    n = len(sprites)
    wide, high = (torch.from_numpy(np.float32(0.9) * part.astype(np.float32)) for part in (squeeze, np.ones(n)))
    turned = place(sprites, wide, high, torch.zeros(n, 2), torch.from_numpy(turns.astype(np.float32)), _PATCH)
    return [
        F.interpolate(mask[None], size=(side, side), mode="bilinear", align_corners=False, antialias=True)[0, 0]
        for mask, side in zip(turned, sides.tolist(), strict=True)
    ]


def _put(canvas: Tensor, patch: Tensor, top: int, left: int, colour: Tensor) -> None:
    """Paint a patch onto the canvas, in place; what reaches beyond its edges is cut off."""
    height, width = canvas.shape[1:]
    rows = slice(max(0, top), min(height, top + patch.shape[0]))
    columns = slice(max(0, left), min(width, left + patch.shape[1]))
    part = patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    there = canvas[:, rows, columns]
    canvas[:, rows, columns] = torch.lerp(there, colour.expand_as(there), part.expand_as(there))


def _free(boxes: list[list[int]], canvas: torch.Size, patch: torch.Size, rng: np.random.Generator) -> list[int] | None:
    """A place (top, left) for a patch that touches no box, or None if none was found."""
    height, width = patch
    if height > canvas[0] or width > canvas[1]:
        return None
    for _ in range(_TRIES):
        top, left = (int(rng.integers(0, whole - side + 1)) for whole, side in zip(canvas, patch, strict=True))
        if all(
            left > x2 + 2 or left + width < x1 - 2 or top > y2 + 2 or top + height < y1 - 2 for x1, y1, x2, y2 in boxes
        ):
            return [top, left]
    return None


def _tinted(grey: float, rng: np.random.Generator) -> Tensor:
    """A colour [3, 1, 1] of this brightness, short of black and white."""
    tint = rng.uniform(-0.15, 0.15, 3)
    return torch.from_numpy((grey + tint - tint.mean()).clip(0.04, 0.96).astype(np.float32)).view(3, 1, 1)
