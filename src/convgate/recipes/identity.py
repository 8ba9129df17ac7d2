"""What of a recipe changes a run's result, and what does not: where its files are, on what it is run, what it is
called.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from convgate.methods import METHODS
from convgate.recipes.recipe import Recipe
from convgate.suggestions import same_name

__all__ = ["differences", "is_free", "placeless", "same_settings", "settings_of", "with_start", "with_start_stated"]

_DATA, _WEIGHTS = "$DATA", "$WEIGHTS/"
_FREE = ("title", "hardware", "controls", "control", "control_of")
# Fields that may change between the two halves of a run that was interrupted.


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """All that a recipe sets, as plain data in which $DATA and $WEIGHTS stand for places of this machine.

    Where its methods' gates start (the option `init`) is stated even if the recipe leaves it open; see `with_start`.
    """
    settings: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return with_start(_portable(settings), None)


def with_start(settings: Mapping[str, Any], init: str | None) -> dict[str, Any]:
    """The settings with `init` among the options of every method that has this option and was not given it.

    Its default was "paper" once and is "whole" now, so records of runs state it: one that does not is of the former
    days, and was trained with "paper".

    Args:
        settings: a recipe as plain data.
        init: what the option was where it was left open; None: what it is today.

    >>> with_start({"method": {"name": "DualGating", "options": {"tile": 2}}}, "paper")["method"]["options"]
    {'tile': 2, 'init': 'paper'}
    """
    return {**settings, "method": _started(settings.get("method", {}), init)}


def with_start_stated(recipe: Recipe) -> Recipe:
    """The recipe with the option `init` of its methods stated, as records of runs have it; see `with_start`."""
    stated = with_start({"method": asdict(recipe.method)}, None)["method"]
    return replace(recipe, method=replace(recipe.method, options=stated["options"]))


def _started(value: Any, init: str | None) -> Any:
    """A method's name and options, and those of the methods among its options, with `init`."""
    if isinstance(value, list):
        return [_started(item, init) for item in value]
    if not isinstance(value, Mapping):
        return value
    value = {key: _started(item, init) for key, item in value.items()}
    name = value.get("name")
    method = METHODS.get(same_name(name, METHODS) or "") if isinstance(name, str) else None
    options = getattr(method, "__dataclass_fields__", {})
    if "init" in options:
        value["options"] = {**(value.get("options") or {})}
        value["options"].setdefault("init", init or options["init"].default)
    return value


def differences(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    """The fields, nested with dots, whose values differ: field -> (old, new)."""
    before, after = (dict(_leaves(json.loads(json.dumps(asdict(r))))) for r in (old, new))
    keys = dict.fromkeys((*before, *after))
    return {
        k: (before.get(k), after.get(k)) for k in keys if before.get(k) != after.get(k) or (k in before) != (k in after)
    }


def same_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two records' settings (`settings_of`) are those of one run: alike but for what is free.

    A field that only one of them has did not exist when the other was recorded, and had its default's meaning; where
    gates start, see `with_start`.
    """
    before, after = (dict(_leaves(with_start(settings, "paper"))) for settings in (old, new))
    both = before.keys() & after.keys()
    return all(before[key] == after[key] or is_free(key, before[key], after[key]) for key in both)


def is_free(field: str, old: Any, new: Any) -> bool:
    """Whether this difference leaves the result of a run what it is: titles, hardware, and places of the same files.

    Sums are rounded differently on other hardware; a run may be continued there all the same.
    """
    return field.partition(".")[0] in _FREE or (placeless(field, old) == placeless(field, new) and old is not None)


def placeless(field: str, value: Any) -> Any:
    """A field's value; of a path, only what is the same on every machine. `field` may have dots."""
    name = field.rpartition(".")[2].lstrip("-")
    if name == "root" and value is not None:
        return _DATA
    if name == "weights" and value not in (None, "null", "", "pretrained"):
        return f"{_WEIGHTS}{Path(value).name}"
    return value


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _portable(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _portable(value) if isinstance(value, Mapping) else placeless(key, value) for key, value in values.items()
    }
