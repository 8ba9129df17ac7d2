"""The command line that does a run again: as it was asked for, and as the recipes are now.

$DATA stands for where the images are, $WEIGHTS for the folder of weights.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convgate.errors import RecipeError
from convgate.runs.origin import Origin
from convgate.recipes.recipe import Recipe, load_recipe, shipped_recipes

__all__ = ["again", "as_started", "settings_of"]

_DATA, _WEIGHTS = "$DATA", "$WEIGHTS/"


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """All that a recipe sets, as plain data that names no place of this machine."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return _portable(settings)


def again(name: str, settings: Mapping[str, Any]) -> str | None:
    """The shipped recipe of that name, with what its file sets otherwise than `settings`, from `settings_of`.

    None if there is no such recipe, or if what is shipped today cannot be changed to those settings.
    """
    if name not in shipped_recipes():
        return None
    now = settings_of(load_recipe(name))
    changes = {f"--{key}": _text(value) for key, value in _changes(now, settings)}
    try:
        reached = settings_of(load_recipe(name, [f"{key}={value}" for key, value in changes.items()]))
    except RecipeError:
        return None
    # Top-level fields that are younger than the run have no say.
    return _line(name, changes) if {key: reached.get(key) for key in settings} == dict(settings) else None


def as_started(origin: Origin) -> str:
    """What was asked for, with the epochs that were run."""
    changes = {key: _text(_placeless(key, value)) for key, value in _pairs(origin.overrides).items()}
    changes |= {f"--{name}.epochs": str(n) for name, n in origin.run.items() if origin.full.get(name) != n}
    return _line(origin.recipe if origin.recipe in shipped_recipes() else Path(origin.recipe).name, changes)


def _line(recipe: str, changes: Mapping[str, str]) -> str:
    quoted = (f"{key}={_quoted(value)}" for key, value in changes.items())
    return " ".join(["convgate train", shlex.quote(recipe), *quoted])


def _changes(now: Mapping[str, Any], then: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields whose values differ or are places, nested with dots.

    A mapping comes as a whole if it lost a key, or has keys with dots.
    """
    for key, value in then.items():
        there, path = now.get(key), f"{prefix}{key}"
        if isinstance(value, Mapping) and value and set(there or {}) <= set(value) and "." not in "".join(value):
            yield from _changes(there or {}, value, f"{path}.")
        elif value != there or key not in now or _is_place(value):
            yield path, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    return f'"{text}"' if _is_place(text) else shlex.quote(text)


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and value.startswith((_DATA, _WEIGHTS))


def _pairs(overrides: Sequence[str]) -> dict[str, str]:
    """--FIELD=VALUE and --FIELD VALUE alike; the last one of a field counts."""
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


def _portable(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _portable(value) if isinstance(value, Mapping) else _placeless(key, value) for key, value in values.items()
    }


def _placeless(key: str, value: Any) -> Any:
    """A field's value; a path with $DATA or $WEIGHTS in it. `key` may have dots."""
    field = key.rpartition(".")[2].lstrip("-")
    if field == "root" and value is not None:
        return _DATA
    if field == "weights" and value not in (None, "null", "", "pretrained"):
        return f"{_WEIGHTS}{Path(value).name}"
    return value
