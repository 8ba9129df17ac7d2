"""How images are prepared for a published model and what its classes are called, as torchvision or timm says."""

import math
from dataclasses import replace
from typing import Any

from convgate.errors import InputError
from convgate.models.create import _timm_builder, _torchvision_builder
from convgate.models.own import is_place
from convgate.models.registry import registered
from convgate.preparation import Preparation

__all__ = ["preparation_of", "prepared_at", "synsets"]


def preparation_of(name: str) -> Preparation | None:
    """How images are prepared for the model `name` (see `create_model`), with its classes; None if that is not known.

    torchvision's come from the transforms and categories of its first published weights, timm's from the model's
    data configuration and ImageNet's names; a registered model's from its registration. They are right for the
    published weights, and for yours if they were trained in the same way.

    Raises `InputError` for an unknown name, and for a way of cropping that `Preparation` does not have.

    >>> preparation_of("resnet18").resize, preparation_of("resnet18").classes[:2]
    (256, ('tench', 'goldfish'))
    """
    entry = registered().get(name)
    if entry is not None:
        known = entry.input
        if known is None or known.mean is None or known.std is None:
            return None
        size = known.shape[1:]
        return Preparation(size, min(size), mean=known.mean, std=known.std)
    if is_place(name):
        return None
    return _of_timm(name) if name.startswith("timm/") else _of_torchvision(name)


def _of_torchvision(name: str) -> Preparation | None:
    import torchvision

    _torchvision_builder(name)  # refuses what does not exist
    published = next(iter(torchvision.models.get_model_weights(name)), None)
    if published is None:
        return None
    transforms = published.transforms()
    (side,), (scaled,) = transforms.crop_size, transforms.resize_size
    return Preparation(
        (side, side),
        scaled,
        transforms.interpolation.value,
        tuple(transforms.mean),
        tuple(transforms.std),
        tuple(published.meta.get("categories", ())),
    )


def _of_timm(name: str) -> Preparation | None:
    import timm
    from timm.data import ImageNetInfo, infer_imagenet_subset

    plain = name.removeprefix("timm/")
    _timm_builder(plain)
    config = timm.get_pretrained_cfg(plain)
    if config is None:
        return None
    _, height, width = config.input_size
    square = config.crop_mode == "center" and height == width
    if not square and config.crop_mode != "squash":
        raise InputError(
            f"{name} is evaluated on {height} x {width} pixels with timm's crop mode '{config.crop_mode}', which a "
            "Preparation does not have; make one of your own"
        )
    scaled = math.floor(height / config.crop_pct), math.floor(width / config.crop_pct)
    subset = infer_imagenet_subset({"num_classes": config.num_classes})
    classes = ImageNetInfo(subset).label_descriptions() if subset else ()
    return Preparation(
        (height, width),
        min(scaled) if square else scaled,
        config.interpolation,
        tuple(config.mean),
        tuple(config.std),
        tuple(classes),
    )


def prepared_at(known: Preparation, size: int) -> Preparation:
    """The same for images of another size: what they are scaled to before they are cut changes in proportion."""
    height, width = known.size
    if isinstance(known.resize, tuple):
        scaled: Any = (round(known.resize[0] * size / height), round(known.resize[1] * size / width))
    else:
        scaled = round(known.resize * size / min(height, width))
    return replace(known, size=(size, size), resize=scaled)


def synsets(outputs: int) -> tuple[str, ...]:
    """WordNet's codes of ImageNet's classes ("n01440764") in the order of a network of so many outputs; else ().

    They are timm's; without timm there are none.
    """
    try:
        from timm.data import ImageNetInfo, infer_imagenet_subset
    except ModuleNotFoundError:
        return ()
    subset = infer_imagenet_subset({"num_classes": outputs})
    return tuple(ImageNetInfo(subset).label_names()) if subset else ()
