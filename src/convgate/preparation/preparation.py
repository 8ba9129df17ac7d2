"""How images are prepared for a network, and what its outputs are called; plain data that travels in files."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convgate.errors import DataError, InputError
from convgate.preparation.pixels import pixels_of, resized
from convgate.preparation.resampling import FILTERS, scaled_size

__all__ = ["Preparation"]

_LARGEST = 2**14
# Sides are no larger than this; what a damaged file says must not exhaust memory.
_NARROWEST = 64
# Longer side to shorter one; scaling a narrower image by its shorter side makes it too long.
_MOST_CLASSES, _LONGEST_NAME = 100_000, 1_000


@dataclass(frozen=True)
class Preparation:
    """Scale an image, crop its centre and normalise it, as torchvision's and timm's evaluation transforms do.

    Args:
        size: height and width that the network is given, in pixels.
        resize: the shorter side is scaled to this before the centre is cropped; or (height, width), to which the whole
            image is scaled whatever its shape.
        interpolation: nearest, bilinear, bicubic or lanczos.
        mean: mean of each channel, of values scaled to [0, 1]; three for RGB, one for grey.
        std: standard deviation of each channel, of the same values.
        classes: what the network's outputs are called, in their order; empty where that is not known.

    Raises:
        InputError: a value that is not allowed.

    >>> preparation = Preparation((2, 2), 2, mean=(0.5,) * 3, std=(0.5,) * 3, classes=("cat", "dog"))
    >>> preparation.read([np.full((4, 6, 3), 255, np.uint8)]).shape
    (1, 3, 2, 2)
    >>> preparation.top(np.array([0.0, 1.0]), 1)
    [('dog', 0.731)]

    """

    size: tuple[int, int]
    resize: int | tuple[int, int]
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole = isinstance(self.resize, tuple)
        if not _is_size(self.size) or not (_is_size(self.resize) if whole else _is_side(self.resize)):
            raise InputError(
                f"the sizes of a preparation are {self.size} and {self.resize}: give (height, width), and one side or "
                f"(height, width), from 1 to {_LARGEST} pixels"
            )
        if self.interpolation not in FILTERS:
            raise InputError(f"interpolation {self.interpolation!r}: it is one of {', '.join(FILTERS)}")
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise InputError(
                f"mean {self.mean} and std {self.std}: give three numbers each for colours, one each for grey"
            )
        if not all(map(_is_number, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise InputError(f"mean {self.mean}, std {self.std}: they are finite numbers, and std is above 0")
        if len(self.classes) > _MOST_CLASSES or not all(
            isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME for name in self.classes
        ):
            raise InputError(
                f"classes are up to {_MOST_CLASSES:,} texts of 1 to {_LONGEST_NAME:,} characters, in the order of the "
                "network's outputs"
            )

    # -- images in -------------------------------------------------------------------------------------------------

    def read(self, images: Iterable[Any]) -> np.ndarray:
        """Images as the network is given them: float32 [N, C, height, width].

        Args:
            images: paths of files, Pillow images, or arrays uint8 [H, W, C].

        Raises:
            DataError: one of them cannot be read.
            MissingDependencyError: files, and Pillow is not installed.

        """
        if isinstance(images, str | bytes):
            raise InputError("read() takes a list of images; for a single one write read([image])")
        prepared = [self.normalised(self.cut(self.scaled(image))) for image in images]
        if not prepared:
            raise InputError("read() was given no images; give at least one")
        return np.stack(prepared)

    def scaled(self, image: Any) -> np.ndarray:
        """An image scaled, but not yet cropped: uint8 [H, W, C]."""
        pixels = pixels_of(image, len(self.mean))
        height, width = pixels.shape[:2]
        if isinstance(self.resize, tuple):
            return resized(pixels, *self.resize, self.interpolation)
        if max(height, width) > _NARROWEST * min(height, width):
            named = "" if isinstance(image, np.ndarray) else f"{image}: "
            raise DataError(f"{named}an image of {width} x {height} pixels is too narrow; crop it")
        return resized(pixels, *scaled_size(height, width, self.resize), self.interpolation)

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """The middle of a scaled image, uint8 [height, width, C]; black where the image is smaller."""
        missing = [max(wanted - have, 0) for wanted, have in zip(self.size, pixels.shape[:2], strict=True)]
        if any(missing):
            around = [(side // 2, (side + 1) // 2) for side in missing]
            pixels = np.pad(pixels, (*around, (0, 0)))
        top, left = (round((have - wanted) / 2) for wanted, have in zip(self.size, pixels.shape[:2], strict=True))
        return pixels[top : top + self.size[0], left : left + self.size[1]]

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [H, W, C] -> float32 [C, H, W]."""
        values = pixels.astype(np.float32).transpose(2, 0, 1) / np.float32(255)
        mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (self.mean, self.std))
        return np.ascontiguousarray((values - mean) / std)

    # -- answers out -----------------------------------------------------------------------------------------------

    def name(self, output: int) -> str:
        """What an output is called: its class, or its number where the classes are not known."""
        return self.classes[output] if output < len(self.classes) else str(output)

    def top(self, logits: np.ndarray, k: int = 5) -> list[tuple[str, float]]:
        """The `k` likeliest classes of one image's logits [classes], with their probabilities, likeliest first."""
        logits = np.asarray(logits, np.float64)
        if logits.ndim != 1 or k < 1:
            raise InputError(f"top() takes the logits of one image, [classes], and k >= 1; got {list(logits.shape)}")
        odds = np.exp(logits - logits.max())
        order = np.argsort(-odds, kind="stable")[:k]
        return [(self.name(int(i)), round(float(odds[i] / odds.sum()), 3)) for i in order]

    # -- plain data ------------------------------------------------------------------------------------------------

    def as_data(self) -> dict[str, Any]:
        """Lists, numbers and texts, for JSON."""
        return {
            "size": list(self.size),
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
            "classes": list(self.classes),
        }

    @staticmethod
    def from_data(data: Any) -> "Preparation":
        """The preparation that `as_data` described. Raises `InputError` for any other data."""
        fields = ("size", "resize", "interpolation", "mean", "std", "classes")
        if not isinstance(data, Mapping) or set(data) != set(fields):
            raise InputError(f"a preparation is an object with the fields {', '.join(fields)}")
        lists = {name: _listed(data[name], name) for name in ("size", "mean", "std", "classes")}
        resize = tuple(data["resize"]) if isinstance(data["resize"], list) else data["resize"]
        if not isinstance(data["interpolation"], str):
            raise InputError("a preparation's interpolation is not text")
        return Preparation(resize=resize, interpolation=data["interpolation"], **lists)

    def check_outputs(self, outputs: int) -> None:
        """Raise `InputError` unless there are as many classes, if they are known, as the network has outputs."""
        if self.classes and len(self.classes) != outputs:
            raise InputError(
                f"{len(self.classes)} names of classes are given, and the network has {outputs} outputs; give one name "
                "per output, in their order"
            )


def _listed(value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f"a preparation's {name} is not a list")
    return tuple(value)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_side, value))


def _is_number(value: Any) -> bool:
    # Compared, not converted: an integer of JSON may be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
