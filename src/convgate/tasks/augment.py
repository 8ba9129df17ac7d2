"""Augmentation of scenes: one implementation for images, masks and boxes, by torchvision's transforms."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convgate.data.scenes import IGNORED

__all__ = ["augment_boxes", "augment_masks"]


def augment_masks(
    images: Sequence[Tensor],
    masks: Sequence[Tensor],
    generator: torch.Generator,
    *,
    crop: tuple[int, int],
    scale: tuple[float, float],
    flip: bool,
    colour: float,
) -> tuple[Tensor, Tensor]:
    """(images uint8 [N, 3, *crop], labels int64 [N, *crop]): each scaled by a random factor, cropped, mirrored, tinted.

    What a crop has beyond the image's edge is black, with the label `IGNORED`.
    """
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    fill: dict[Any, Any] = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
    cut = v2.Compose([v2.RandomCrop(crop, pad_if_needed=True, fill=fill), *_looks(flip, colour)])
    pairs = []
    with _drawing(generator):
        for image, mask in zip(images, masks, strict=True):
            size = _scaled(image.shape[1:], scale)
            resize = v2.Resize(size, antialias=True)
            pairs.append(cut(resize(tv_tensors.Image(image)), resize(tv_tensors.Mask(mask))))
    return torch.stack([image for image, _ in pairs]).as_subclass(Tensor), torch.stack(
        [mask for _, mask in pairs]
    ).as_subclass(Tensor).long()


def augment_boxes(
    images: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    generator: torch.Generator,
    *,
    crop: int | None,
    scale: tuple[float, float],
    flip: bool,
    colour: float,
    visible: float,
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images uint8 [3, H, W] and their boxes: scaled, cropped to squares of `crop` (None: not), mirrored, tinted.

    A box of which less than the share `visible` is left in the crop is taken out; so are boxes around crowds.
    """
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    cut = [v2.RandomCrop((crop, crop), pad_if_needed=True)] if crop is not None else []
    transform = v2.Compose([*cut, *_looks(flip, colour)])
    found: list[tuple[Tensor, dict[str, Tensor]]] = []
    with _drawing(generator):
        for image, target in zip(images, targets, strict=True):
            real = target["iscrowd"] == 0
            size = _scaled(image.shape[1:], scale)
            # Boxes stay as they are beyond the crop's edge, to know how much of each is left.
            boxes = tv_tensors.BoundingBoxes(
                target["boxes"][real], format="XYXY", canvas_size=tuple(image.shape[1:]), clamping_mode=None
            )
            resized, moved = v2.Resize(size, antialias=True)(tv_tensors.Image(image), boxes)
            picture, moved = transform(resized, moved)
            whole = moved.as_subclass(Tensor)
            height, width = picture.shape[1:]
            inside = torch.stack([whole[:, 0::2].clamp(0, width), whole[:, 1::2].clamp(0, height)], 2).flatten(1)
            seen = _area(inside) >= visible * _area(whole).clamp(min=1e-6)
            seen &= (inside[:, 2:] - inside[:, :2] >= 1).all(1)
            kept = {"boxes": inside[seen], "labels": target["labels"][real][seen]}
            found.append((picture.as_subclass(Tensor), kept))
    return [image for image, _ in found], [target for _, target in found]


def _looks(flip: bool, colour: float) -> list[Any]:
    from torchvision.transforms import v2

    mirror = [v2.RandomHorizontalFlip()] if flip else []
    return [*mirror, v2.ColorJitter(colour, colour, colour, colour / 6)] if colour else mirror


def _scaled(size: Sequence[int], scale: tuple[float, float]) -> list[int]:
    factor = float(torch.empty(1).uniform_(*scale))
    return [max(1, round(side * factor)) for side in size]


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)


class _drawing:  # noqa: N801 - a context manager that reads as a verb
    """torchvision draws on torch's global generator: for the block it is in a state that `generator` determines."""

    def __init__(self, generator: torch.Generator) -> None:
        self.seed = int(torch.randint(2**62, (), generator=generator))
        self.fork = torch.random.fork_rng(devices=[])

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: Any) -> None:
        self.fork.__exit__(*error)
