"""Recipes from YAML files and the command line, and back.

The keys of a file are the fields of `Recipe`; `convgate train FILE --gated.epochs 3` overrides any of them, and of a
nested option (`--method.options.gates.options.tile=2`) that part alone. A file may name others as its `base` (one or a
list: files relative to itself, or recipes by name), whose fields it takes except for those that it sets; of several
bases the last one that sets a field counts.
"""

import copy
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convgate.errors import ConvgateError, RecipeError
from convgate.recipes.budget import budget_fields
from convgate.recipes.controls import derived, split_name
from convgate.recipes.library import find_recipe
from convgate.recipes.recipe import Recipe
from convgate.suggestions import did_you_mean

if TYPE_CHECKING:
    import jsonargparse

__all__ = [
    "check_overrides",
    "describe_fields",
    "dump_recipe",
    "field_descriptions",
    "field_names",
    "fields_of",
    "load_recipe",
    "parse_recipe",
]


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a file or name, with command-line style overrides.

    Args:
        source: a path, or a recipe's name (see `list_recipes`); with @CONTROL behind it, the control of that name to it
            (see `convgate.recipes.controls`).
        overrides: fields and values, nested fields with dots.

    Raises:
        RecipeError: no such recipe, an unknown key, or a value of the wrong kind; the message names it.

    >>> load_recipe("digits-demo", ["--gated.epochs", "3", "--budget=0.4"]).gated.epochs
    3

    """
    fields, (name, control) = fields_of(source), _named(source)
    row = parse_recipe(fields, overrides, str(source))
    if not control:
        return row
    return derived(row, control, of=name, written=parse_recipe(fields, (), name) if overrides else row)


def fields_of(source: str | Path) -> dict[str, Any]:
    """What a recipe's file sets, over what its bases set: plain data, not yet checked. Of a control: its row's."""
    found = find_recipe(_named(source)[0])
    return _read(found) if isinstance(found, Path) else _over_bases(found, Path.cwd(), f"recipe '{source}'", ())


def _named(source: str | Path) -> tuple[str, str]:
    """(the recipe's name or path, the control's name or "")."""
    return (str(source), "") if Path(source).is_file() else split_name(str(source))


@functools.cache
def field_names() -> tuple[str, ...]:
    """The fields of a recipe, nested ones with dots.

    >>> "gated.epochs" in field_names()
    True
    """
    options = (option for action in _parser()._actions for option in action.option_strings)
    fields = {option.removeprefix("--") for option in options if option.startswith("--")}
    return tuple(sorted(field for field in fields if not field.endswith("help")))


def check_overrides(overrides: Sequence[str], also: Sequence[str] = ()) -> None:
    """Raise `RecipeError` for an override of a field that recipes do not have; it names the closest there is.

    Args:
        overrides: as on the command line, e.g. ["--gated.epochs", "3", "--budget=0.4"].
        also: options that may have been meant beside the fields, e.g. ["--out"].

    """
    fields = field_names()
    # A field that holds data of any kind, such as data.options, has parts of any name.
    free = {field for field in fields if not any(other.startswith(f"{field}.") for other in fields)}
    for override in overrides:
        name = override.partition("=")[0].removeprefix("--").removesuffix("+")
        above = (name[:end] for end, letter in enumerate(name) if letter == ".")
        if override.startswith("--") and name not in fields and not any(part in free for part in above):
            meant = did_you_mean(f"--{name}", [*also, *(f"--{field}" for field in fields)])
            raise RecipeError(f"recipes have no field '{name}'{meant} `convgate recipe --fields` describes the fields")


def describe_fields() -> str:
    """Every field of a recipe with its type, default and meaning, one or two lines each."""
    return str(_parser().format_help())


def field_descriptions() -> dict[str, str]:
    """Name of every field, nested ones with dots -> what it means.

    >>> field_descriptions()["gated.epochs"]
    'passes over the training images.'
    """
    names, actions = field_names(), _parser()._actions
    said = {action.dest: " ".join((action.help or "").split()) for action in actions}
    return {name: said.get(name, "") for name in names}


def parse_recipe(
    fields: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "given", *, past: bool = False
) -> Recipe:
    """The recipe that plain data describe, with overrides; `source` is named in errors.

    Raises `RecipeError`; also for a method that does not exist, unless the recipe is that of a run of the `past`, which
    can be looked at without the package that has its method.
    """
    import jsonargparse

    try:
        # A text says milliseconds; of a file that has both fields, as runs write it, they stay as they are.
        if isinstance(fields.get("budget"), str):
            fields = {**fields, **budget_fields(fields["budget"])}
        parser = _new_parser() if overrides else _parser()
        read = parser.parse_object({**fields})
        if overrides:
            # A part of a field that may be null can be set over a parser's defaults, not over what was read.
            parser.set_defaults(read.as_dict())
            read = parser.parse_args(_whole_options(fields, overrides))
        recipe = Recipe(**parser.instantiate(read).as_dict())
        # Here, and not when the gated stage begins: training before it may take days.
        if not past and recipe.method.name is not None:
            from convgate.methods import create_method  # after all that can be checked without torch

            create_method(recipe.method.name, recipe.method.options, budget=recipe.budget)
        if not past:
            from convgate.tasks import create_task

            create_task(recipe.task, recipe.task_options).with_augmentation(recipe.augmentation)
        return recipe
    except (jsonargparse.ArgumentError, ConvgateError, OSError) as error:
        changes = f" with {' '.join(overrides)}" if overrides else ""
        if any(override.startswith("--method.name") for override in overrides):
            changes += " (another method keeps the recipe's options unless --method.options='{..}' replaces them all)"
        raise RecipeError(
            f"recipe {source}{changes}: {error}. `convgate recipe --fields` describes the fields"
        ) from error


def _whole_options(fields: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """Overrides that set a part of an option (`--method.options.gates.options.tile=2`), as ones that set all of it.

    What lies within `options` is free, so that the parser would replace an option where a part of it is given.
    """
    now: dict[str, Any] = copy.deepcopy({**fields})
    whole = []
    for flag, value in _pairs(overrides):
        path = flag.removeprefix("--").split(".")
        if value is None or not flag.startswith("--"):
            whole += [flag] if value is None else [flag, value]
            continue
        if path == ["budget"]:
            whole += [f"--{name}={json.dumps(set_to)}" for name, set_to in budget_fields(_parsed(value)).items()]
            continue
        _set(now, path, _parsed(value))
        end = path.index("options") + 2 if "options" in path else len(path)
        if len(path) > end:
            option = _get(now, path[:end])
            whole.append(f"--{'.'.join(path[:end])}={json.dumps(option)}")
        else:
            whole.append(f"{flag}={value}")
    return whole


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Flags with their values, `--a=1` and `--a 1`; what has no value with None."""
    given = iter(overrides)
    for flag in given:
        name, is_set, value = flag.partition("=")
        yield (name, value) if is_set else (flag, next(given, None))


def _parsed(value: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:  # a text, as the parser takes it
        return value


def _get(values: Mapping[str, Any], path: Sequence[str]) -> Any:
    for name in path:
        values = values[name]
    return values


def _set(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for name in parents:
        if not isinstance(values.get(name), dict):
            values[name] = {}
        values = values[name]
    values[last] = value


@functools.cache
def _parser() -> "jsonargparse.ArgumentParser":
    """One that stays as it is: to build one takes a tenth of a second."""
    return _new_parser()


def _new_parser() -> "jsonargparse.ArgumentParser":
    """The parser behind recipes; its help lists every field."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(prog="convgate train", exit_on_error=False, allow_abbrev=False)
    parser.usage = "convgate train RECIPE [--FIELD VALUE ...]"
    parser.add_class_arguments(Recipe)
    return parser


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every field written out."""
    import yaml

    return yaml.safe_dump(_plain(asdict(recipe)), sort_keys=False)


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not a YAML file ({error})") from error
    return _over_bases(values, path.parent, str(path), (*seen, path.resolve()))


def _over_bases(values: Any, folder: Path, source: str, seen: tuple[Path, ...]) -> dict[str, Any]:
    """`values` over those of their bases. Raises `RecipeError` for what is not a mapping, and for circles."""
    if not isinstance(values, Mapping):
        raise RecipeError(f"{source} holds a {type(values).__name__}; a recipe is a mapping from fields to values")
    named = values.get("base", [])
    under: dict[str, Any] = {}
    for base in named if isinstance(named, list) else [named]:
        other = folder / str(base)
        if not other.is_file():
            found = _find_base(str(base), source, other)
            under = _merged(under, _read(found, seen) if isinstance(found, Path) else {**found})
            continue
        if other.resolve() in seen:
            raise RecipeError(f"{source} has the base {base}, which is based on it; remove one of the two")
        under = _merged(under, _read(other, seen))
    return _merged(under, {key: value for key, value in values.items() if key != "base"})


def _find_base(name: str, source: str, path: Path) -> Mapping[str, Any] | Path:
    """A base that is named, not given as a file."""
    try:
        return find_recipe(name)
    except RecipeError:
        raise RecipeError(f"{source} has the base {name}, and there is no file {path} and no such recipe") from None


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _merged(under[key], over[key]) for key in over if _are_mappings(under.get(key), over[key])}
    return {**under, **over, **both}


def _are_mappings(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
