"""Checks of a method's options, which come from code, recipes and the command line alike."""

import math
from collections.abc import Mapping
from typing import Any

from convgate.errors import InputError
from convgate.gated.plain import FrozenMapping
from convgate.gating.heads import INITS

__all__ = ["OptionChecks"]


class OptionChecks:
    """Checks fields of a method; each raises `InputError` with the option, what was given and what is allowed."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def share(self, option: str) -> None:
        """A number in (0, 1]."""
        value = self._number(option)
        self._require(0 < value <= 1, option, "a share of the dense MACs, in (0, 1]")

    def numbers(self, *options: str, above: float = -math.inf, least: float = -math.inf) -> None:
        """Finite numbers, more than `above` and at least `least`."""
        bound = f" above {above:g}" if above > -math.inf else f" of at least {least:g}" if least > -math.inf else ""
        for option in options:
            value = self._number(option)
            self._require(value > above and value >= least, option, f"a finite number{bound}")

    def shares(self, *options: str) -> None:
        """Numbers in [0, 1]."""
        for option in options:
            self._require(0 <= self._number(option) <= 1, option, "a number in [0, 1]")

    def shares_by_name(self, option: str) -> None:
        """A mapping from names to numbers in [0, 1]."""
        value = getattr(self._method, option)
        valid = isinstance(value, Mapping) and all(
            isinstance(k, str) and isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1
            for k, v in value.items()
        )
        self._require(valid, option, "a mapping from names to numbers in [0, 1]")
        object.__setattr__(self._method, option, FrozenMapping(value))

    def sizes(self, *options: str, least: int = 1) -> None:
        """Whole numbers of at least `least`."""
        for option in options:
            value = getattr(self._method, option)
            self._require(_is_size(value) and value >= least, option, f"a whole number of at least {least}")

    def size_or_sizes_by_number(self, option: str) -> None:
        """A size, or a mapping from whole numbers to sizes; the field is set to one whose keys are numbers.

        Plain-data formats turn the keys of a mapping into strings.
        """
        value = getattr(self._method, option)
        if isinstance(value, Mapping):
            keys = [str(key) for key in value]
            valid = bool(value) and all(k.isdecimal() for k in keys) and all(_is_size(v) for v in value.values())
            self._require(valid, option, "a mapping from heights to whole numbers of at least 1")
            object.__setattr__(self._method, option, FrozenMapping({int(key): size for key, size in value.items()}))
        else:
            self._require(_is_size(value), option, "a whole number of at least 1, or a mapping from heights to such")

    def start(self) -> None:
        """How heads start: the options `init` and `bias`, the latter None where it is what `init` makes of it."""
        self.choice("init", *INITS)
        if getattr(self._method, "bias", None) is not None:
            self.numbers("bias")

    def flags(self, *options: str) -> None:
        """True or false."""
        for option in options:
            self._require(isinstance(getattr(self._method, option), bool), option, "true or false")

    def choice(self, option: str, *allowed: str) -> None:
        """One of a few words."""
        self._require(getattr(self._method, option) in allowed, option, f"one of {', '.join(allowed)}")

    def choice_or_names(self, option: str, *allowed: str) -> None:
        """One of a few words, or names of layers; the field is then set to a tuple of them.

        Plain-data formats turn tuples into lists.
        """
        value = getattr(self._method, option)
        if isinstance(value, tuple | list):
            valid = bool(value) and all(isinstance(name, str) for name in value)
            self._require(valid, option, f"one of {', '.join(allowed)}, or a list of at least one layer's name")
            object.__setattr__(self._method, option, tuple(value))
        else:
            self._require(value in allowed, option, f"one of {', '.join(allowed)}, or a list of layers' names")

    def _number(self, option: str) -> float:
        value = getattr(self._method, option)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        self._require(is_number, option, "a finite number")
        return float(value)

    def _require(self, holds: bool, option: str, allowed: str) -> None:
        if not holds:
            value = getattr(self._method, option)
            raise InputError(f"{type(self._method).__name__}({option}={value!r}): {option} is {allowed}")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
