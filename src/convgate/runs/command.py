"""The command line that does a run again: as it was asked for, and as the recipes are now.

$DATA stands for where the images are, $WEIGHTS for the folder of weights.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convgate.errors import RecipeError
from convgate.recipes.controls import split_name
from convgate.recipes.identity import placeless, settings_of, with_start
from convgate.recipes.library import list_recipes
from convgate.recipes.read import load_recipe
from convgate.runs.origin import Origin

__all__ = ["again", "as_started"]

_PLACES = ("$DATA", "$WEIGHTS/")
_FREE = ("options", "rename")
# Fields whose keys are not fields of the recipe.


def again(name: str, settings: Mapping[str, Any]) -> str | None:
    """The shipped recipe of that name, with overrides for every field that differs from `settings`.

    `settings` come from `convgate.recipes.identity.settings_of`, of this version or an earlier one. None if there is no
    such recipe, or if what is shipped today cannot be changed to those settings.
    """
    if name not in list_recipes():
        return None
    settings = with_start(settings, "paper")
    now = settings_of(load_recipe(name))
    changes = {f"--{key}": _text(value) for key, value in _changes(now, settings)}
    try:
        reached = settings_of(load_recipe(name, [f"{key}={value}" for key, value in changes.items()]))
    except RecipeError:
        return None
    return _line(name, changes) if _agree(reached, settings) else None


def as_started(origin: Origin) -> str:
    """What was asked for, with the epochs that were run."""
    changes = {key: _text(placeless(key, value)) for key, value in _pairs(origin.overrides).items()}
    name, control = split_name(origin.recipe)
    if not control:
        changes |= {f"--{name}.epochs": str(n) for name, n in origin.run.items() if origin.full.get(name) != n}
    return _line(origin.recipe if name in list_recipes() else Path(origin.recipe).name, changes)


def _line(recipe: str, changes: Mapping[str, str]) -> str:
    quoted = (f"{key}={_quoted(value)}" for key, value in changes.items())
    return " ".join(["convgate train", shlex.quote(recipe), *quoted])


def _changes(now: Mapping[str, Any], then: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields whose values differ or are places, nested with dots.

    A mapping of options comes as a whole if it lost a key, or has keys with dots; one that is itself an option always
    does.
    """
    within = prefix.rstrip(".").rpartition(".")[2] in _FREE
    for key, value in then.items():
        there, path = now.get(key), f"{prefix}{key}"
        free = key in _FREE and (not set(there or {}) <= set(value or {}) or "." in "".join(value or {}))
        if isinstance(value, Mapping) and value and not free and not within:
            yield from _changes(there or {}, value, f"{path}.")
        elif value != there or key not in now or _is_place(value):
            yield path, value


def _agree(now: Mapping[str, Any], then: Mapping[str, Any]) -> bool:
    """Whether all fields of `then` are the same now; fields that are younger than it have no say."""
    return all(
        _agree(now[key], value)
        if isinstance(value, Mapping) and isinstance(now.get(key), Mapping) and key not in _FREE
        else now.get(key) == value
        for key, value in then.items()
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    return f'"{text}"' if _is_place(text) else shlex.quote(text)


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_PLACES)


def _pairs(overrides: Sequence[str]) -> dict[str, str]:
    """Fields and values, written --FIELD=VALUE or --FIELD VALUE; the last one of a field counts."""
    pairs, waiting = {}, None
    for part in overrides:
        if waiting is not None:
            pairs[waiting], waiting = part, None
        elif "=" in part:
            key, _, pairs_value = part.partition("=")
            pairs[key] = pairs_value
        else:
            waiting = part
    return pairs
