"""Data sets by name, as recipes and the command line ask for them."""

import inspect
from collections.abc import Callable
from typing import Any

from convgate.data.cifar import cifar10, cifar100
from convgate.data.digits import digits
from convgate.data.imagenet import imagenet
from convgate.data.images import Splits
from convgate.errors import DataError, InputError

__all__ = ["load"]

SETS: dict[str, Callable[..., Splits]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "imagenet": imagenet,
}


def load(name: str, **options: Any) -> Splits:
    """The data set `name`, one of `SETS`; `options` go to the function of that name.

    Raises `DataError` for another name and `InputError` for an option that is missing or unknown.
    """
    if name not in SETS:
        raise DataError(f"There is no data set {name!r}: choose from {', '.join(SETS)}.")
    signature = inspect.signature(SETS[name])
    try:
        signature.bind(**options)
    except TypeError as error:
        raise InputError(f"{name}: {error}. It takes {signature}.") from error
    return SETS[name](**options)
