"""What is to be finetuned, in names: a model, a file of weights, folders of images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PUBLISHED", "Request"]

PUBLISHED = "published"
"""Instead of a file of weights: those that torchvision or timm publishes."""


@dataclass(frozen=True)
class Request:
    """What is to be finetuned, on which images.

    Args:
        model: a name as `convgate.models.create_model` takes it.
        images: folders to train on.
        weights: a file, "published" for torchvision's or timm's, or None for a model of one's own that comes trained.
        rename: prefixes of the file's keys -> what replaces them, e.g. {"linear.": "fc."}.
        held_out: folders to judge by; by default a fifth of the images is set aside, at random.
        labels: "auto", "folders", "none" or a CSV file, see `convgate.data.label`.
        classes: a file with the names of the outputs; by default those that the model's publisher gives.
        like: the name of the model whose preparation is used; by default `model`.
        preparation: what differs from it (size, resize, interpolation, mean, std).
        method: the gating method's name.
        options: of the method.
        model_options: of the model's builder.
        batch: images in a training batch.
        most: so many training images are used at the most, drawn at random.
        skip_unreadable: go on without files that cannot be read.
        seed: of what is drawn, of gates and of training.

    """

    model: str
    images: tuple[str, ...]
    weights: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()
    labels: str = "auto"
    classes: str | None = None
    like: str | None = None
    preparation: Mapping[str, Any] = field(default_factory=dict)
    method: str = "DualGating"
    options: Mapping[str, Any] = field(default_factory=dict)
    model_options: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 24
    most: int = 5000
    skip_unreadable: bool = False
    seed: int = 0
