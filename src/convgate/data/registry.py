"""Data sets by name, as recipes and the command line ask for them."""

import inspect
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from convgate.data.cifar import cifar10, cifar100
from convgate.data.coco import coco
from convgate.data.digit_scenes import digit_scenes
from convgate.data.digits import digits
from convgate.data.imagenet import imagenet
from convgate.data.images import Splits
from convgate.data.pairs import camvid, cityscapes, pairs, voc_segmentation
from convgate.data.shards import shards
from convgate.data.yolo import yolo
from convgate.errors import DataError, InputError
from convgate.suggestions import did_you_mean

__all__ = ["list_datasets", "load", "register_dataset"]

AnyLoader = TypeVar("AnyLoader", bound=Callable[..., Splits])

_SETS: dict[str, Callable[..., Splits]] = {}


def register_dataset(loader: AnyLoader) -> AnyLoader:
    """Decorator for a function that returns `Splits`: recipes know it by the function's name, its arguments as options.

    An option called `root` is where the images are: it may change between the two halves of a run that was interrupted.
    Raises `InputError` for a name that another function has.

    >>> from convgate.data import digits
    >>> @register_dataset
    ... def plain_digits(size: int = 32) -> Splits:
    ...     return digits(size=size, train=20, validation=5, test=5, clutter=0.0)
    >>> len(load("plain_digits", size=24).train)
    20
    >>> _ = _SETS.pop("plain_digits")
    """
    name = loader.__name__
    known = _SETS.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (loader.__module__, loader.__qualname__):
        raise InputError(
            f"two data sets are called '{name}': {known.__module__}.{known.__qualname__} is registered; rename one"
        )
    _SETS[name] = loader
    return loader


for _loader in (
    digits,
    cifar10,
    cifar100,
    imagenet,
    shards,
    digit_scenes,
    coco,
    yolo,
    pairs,
    camvid,
    cityscapes,
    voc_segmentation,
):
    register_dataset(_loader)


def list_datasets(pattern: str = "*") -> list[str]:
    """The names of the registered data sets that match a shell-style pattern, in the order of registration."""
    return [name for name in _SETS if fnmatchcase(name, pattern)]


def load(name: str, **options: Any) -> Splits:
    """The data set of that name; `options` go to the function that was registered.

    Raises `DataError` for an unknown name and `InputError` for an option that is missing or unknown.
    """
    if name not in _SETS:
        raise DataError(
            f"there is no data set '{name}'{did_you_mean(name, _SETS)} The data sets are: {', '.join(_SETS)}. One of "
            "another package is known once that package is imported"
        )
    signature = inspect.signature(_SETS[name])
    try:
        signature.bind(**options)
    except TypeError as error:
        takes = ", ".join(map(str, signature.parameters.values())) or "no options"
        raise InputError(f"the data set {name}: {error}; its options are: {takes}") from error
    return _SETS[name](**options)
