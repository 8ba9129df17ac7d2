"""Options of a method, checked by the types of its fields: values come from code, recipes and the command line.

A field says all that its values must be. Numbers are finite; `Annotated[.., Bounds(..)]` gives their range:

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Options:
...     weight: NotNegative = 1.0
...     group: Size = 1
...     masks: Literal["paper", "equal"] = "paper"
>>> check_options(Options(weight=0.5))
>>> check_options(Options(group=0))
Traceback (most recent call last):
convgate.errors.InputError: Options(group=0): group is a whole number of at least 1
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from convgate.errors import InputError
from convgate.gated.plain import FrozenMapping

__all__ = ["Bounds", "BudgetShare", "NotNegative", "Positive", "Share", "Size", "check_options"]


@dataclass(frozen=True)
class Bounds:
    """The range of a number: at least `least` or more than `above`, and at most `most`.

    `what` it is, in words, is said where a value lies outside.
    """

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    what: str = ""

    def __contains__(self, value: float) -> bool:
        return self.above < value <= self.most and value >= self.least

    def describe(self, number: str) -> str:
        """In words, where a `number` is "a finite number" or "a whole number"."""
        if self.most < math.inf:
            start = f"({self.above:g}" if self.above >= self.least else f"[{self.least:g}"
            return f"{self.what or 'a number'} in {start}, {self.most:g}]"
        if self.above > -math.inf:
            return f"{number} above {self.above:g}"
        return f"{number} of at least {self.least:g}"


Share = Annotated[float, Bounds(least=0, most=1)]
BudgetShare = Annotated[float, Bounds(above=0, most=1, what="a share of the dense MACs")]
Positive = Annotated[float, Bounds(above=0)]
NotNegative = Annotated[float, Bounds(least=0)]
Size = Annotated[int, Bounds(least=1)]


def check_options(options: object) -> None:
    """Check the fields of a dataclass by their types, in place.

    What plain-data formats make of a value is made right: lists become tuples, and keys of mappings numbers where they
    are to be. Mappings become read-only, so that the options can be hashed. Fields of other types than those that
    options have (numbers, words, flags, tuples and mappings of these, classes) take every value.

    Raises:
        InputError: a value that its field does not take; names the class, the option, the value and what is allowed.

    """
    for name, kind in _kinds(type(options)).items():
        given = getattr(options, name)
        try:
            value = _taken(kind, given)
        except _RefusedError:
            raise InputError(f"{type(options).__name__}({name}={given!r}): {name} is {_described(kind)}") from None
        if value is not given:
            object.__setattr__(options, name, value)


class _RefusedError(Exception):
    """A value that a field does not take."""


def _kinds(options: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    found = typing.get_type_hints(options, include_extras=True)
    return {field.name: found[field.name] for field in dataclasses.fields(options)}


def _taken(kind: Any, value: Any) -> Any:
    """`value` as a field of the type `kind` holds it. Raises `_RefusedError`."""
    inner, bounds = _bounded(kind)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin in (Union, types.UnionType):
        return _taken_by_one(arguments, value)
    if origin is Literal:
        return _require(value, any(type(value) is type(word) and value == word for word in arguments))
    if origin is tuple and arguments[1:] == (...,):
        _require(value, isinstance(value, tuple | list) and bool(value))
        return tuple(_taken(arguments[0], item) for item in value)
    if origin is Sequence:
        _require(value, isinstance(value, tuple | list))
        return tuple(_taken(arguments[0], item) for item in value)
    if origin is Mapping:
        _require(value, isinstance(value, Mapping))
        return FrozenMapping({_key(arguments[0], key): _taken(arguments[1], item) for key, item in value.items()})
    if inner is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return _require(value, number and (bounds is None or value in bounds))
    if inner is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return _require(value, whole and (bounds is None or value in bounds))
    return _require(value, inner is Any or not isinstance(inner, type) or isinstance(value, inner))


def _taken_by_one(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return _taken(kind, value)
        except _RefusedError:
            continue
    raise _RefusedError


def _key(kind: Any, key: Any) -> Any:
    """A key, which plain-data formats make a string of."""
    return int(key) if kind is int and isinstance(key, str) and key.isdecimal() else _taken(kind, key)


def _require(value: Any, holds: bool) -> Any:
    if not holds:
        raise _RefusedError
    return value


def _bounded(kind: Any) -> tuple[Any, Bounds | None]:
    """The type without what annotates it, and its range."""
    if typing.get_origin(kind) is not Annotated:
        return kind, None
    inner, *notes = typing.get_args(kind)
    return inner, next((note for note in notes if isinstance(note, Bounds)), None)


_WORDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text", type(None): "None"}
_MANY = {int: "whole numbers", float: "finite numbers", str: "names"}


def _described(kind: Any) -> str:
    """What a field of the type `kind` takes, in words."""
    inner, bounds = _bounded(kind)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin in (Union, types.UnionType):
        parts = [_described(part) for part in arguments]
        return f"{', '.join(parts[:-1])}, or {parts[-1]}"
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"a list of at least one of {_many(arguments[0])}"
    if origin is Sequence:
        return f"a list of {_many(arguments[0])}"
    if origin is Mapping:
        return f"a mapping from {_many(arguments[0])} to {_many(arguments[1])}"
    words = _WORDS.get(inner, f"a {getattr(inner, '__name__', inner)}")
    return bounds.describe(words) if bounds else words


def _many(kind: Any) -> str:
    inner, bounds = _bounded(kind)
    several = _MANY.get(inner, "values")
    if bounds is None:
        return several
    return bounds.describe(several).replace("a number in", "numbers in")
