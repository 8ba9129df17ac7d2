"""The methods by name: what checkpoints, recipes and the command line look them up in.

A method of a package of its own registers itself with `@register_method` when the package is imported; from then on
recipes, `convgate.load` and the commands know it.
"""

import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any, TypeVar

from convgate.errors import InputError
from convgate.gated.method import Method

__all__ = ["METHODS", "create_method", "list_methods", "option_names", "register_method"]

METHODS: dict[str, type[Method]] = {}
"""Name of the class -> class."""

M = TypeVar("M", bound=type[Method])


def register_method(method: M) -> M:
    """Class decorator: make a method known by the name of its class.

    Raises `InputError` for a class that is not a `Method` and a dataclass, and for a name that another class has.

    >>> from dataclasses import dataclass
    >>> from convgate.methods import DualGating, list_methods
    >>> @register_method
    ... @dataclass(frozen=True)
    ... class SpatialOnly(DualGating):
    ...     channel: bool = False
    >>> "SpatialOnly" in list_methods()
    True
    >>> _ = METHODS.pop("SpatialOnly")
    """
    if not (isinstance(method, type) and issubclass(method, Method) and dataclasses.is_dataclass(method)):
        raise InputError(f"register_method({method!r}): give a subclass of Method that is a frozen dataclass")
    known = METHODS.get(method.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (method.__module__, method.__qualname__):
        raise InputError(
            f"two methods are called '{method.__name__}': {known.__module__}.{known.__qualname__} is registered, and "
            f"{method.__module__}.{method.__qualname__} is to be; rename one"
        )
    METHODS[method.__name__] = method
    return method


def list_methods(pattern: str = "*") -> list[str]:
    """The names of the registered methods that match a shell-style pattern, in the order of registration."""
    return [name for name in METHODS if fnmatch(name, pattern)]


def create_method(name: str, options: Mapping[str, Any] | None = None, *, budget: float | None = None) -> Method:
    """The method of that name with these options, trained to `budget` (a share of the dense MACs) if one is given.

    Raises `InputError` for an unknown name or option, and for a value that an option does not take.

    >>> create_method("DualGating", {"channel": False}, budget=0.4).budget
    0.4
    """
    known = option_names(name)
    options = dict(options or {})
    former = METHODS[name].former_options
    unknown = [key for key in options if key not in known and key not in former]
    if unknown:
        raise InputError(f"{name} has no option {', '.join(map(repr, unknown))}; its options are: {', '.join(known)}")
    method = METHODS[name](**options)
    return method if budget is None else method.with_budget(budget)


def option_names(name: str) -> list[str]:
    """The options of the method of that name. Raises `InputError` for an unknown one."""
    if name not in METHODS:
        raise InputError(
            f"there is no method '{name}'; the methods are: {', '.join(METHODS)}. One of another package is known once "
            "that package is imported"
        )
    return [field.name for field in dataclasses.fields(METHODS[name])]  # type: ignore[arg-type]
