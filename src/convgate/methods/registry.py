"""The methods by name: what checkpoints, recipes and the command line look them up in.

A method in somebody else's package registers itself with `@register_method` when that package is imported; from then on
recipes, `convgate.load` and the commands know it.
"""

import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any, TypeVar

from convgate.errors import InputError
from convgate.gated.method import Method
from convgate.suggestions import did_you_mean, same_name

__all__ = ["METHODS", "create_method", "list_methods", "method_class", "option_names", "register_method"]

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

    Args:
        name: a registered name, see `method_class`.
        options: values of the method's fields; those that are left out keep their defaults.
        budget: a share of the dense MACs, in (0, 1].

    Raises:
        InputError: an unknown name or option, or a value that an option does not take.

    >>> create_method("DualGating", {"channel": False}, budget=0.4).budget
    0.4
    """
    chosen = method_class(name)
    known, former = option_names(name), chosen.former_options
    options = dict(options or {})
    unknown = [key for key in options if key not in known and key not in former]
    if unknown:
        raise InputError(
            f"{chosen.__name__} has no option {', '.join(map(repr, unknown))}{did_you_mean(unknown[0], known)} Its "
            f"options are: {', '.join(known)}"
        )
    method = chosen(**options)
    return method if budget is None else method.with_budget(budget)


def method_class(name: str) -> type[Method]:
    """The method of that name. Case, "-", "_" and a last "Gating" do not matter: "dual" is DualGating.

    Raises `InputError` for an unknown name.

    >>> method_class("dual").__name__
    'DualGating'
    """
    if not isinstance(name, str):  # from a file
        raise InputError(f"a method is called {name!r}; give one of these names: {', '.join(METHODS)}")
    found = name if name in METHODS else same_name(name, METHODS)
    if found is None:
        raise InputError(
            f"there is no method '{name}'{did_you_mean(name, METHODS)} The methods are: {', '.join(METHODS)}. One of "
            "another package is known once that package is imported"
        )
    return METHODS[found]


def option_names(name: str) -> list[str]:
    """The names of the options of a method, in the order of its fields. Raises `InputError` for an unknown method."""
    return [field.name for field in dataclasses.fields(method_class(name))]  # type: ignore[arg-type]
