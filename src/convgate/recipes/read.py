"""Recipes from YAML files and the command line, and back.

The keys of a file are the fields of `Recipe`; `convgate train FILE --gated.epochs 3` overrides any of them. A file may
name others as its `base` (one or a list: files relative to itself, or recipes by name), whose fields it takes except
for those that it sets; of several bases the last one that sets a field counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convgate.errors import ConvgateError, RecipeError
from convgate.recipes.library import find_recipe
from convgate.recipes.recipe import Recipe
from convgate.suggestions import did_you_mean

if TYPE_CHECKING:
    import jsonargparse

__all__ = [
    "check_overrides",
    "describe_fields",
    "dump_recipe",
    "field_names",
    "fields_of",
    "load_recipe",
    "parse_recipe",
    "recipe_parser",
]


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a file or name, with command-line style overrides.

    Args:
        source: a path, or a recipe's name (see `list_recipes`).
        overrides: fields and values, nested fields with dots.

    Raises:
        RecipeError: no such recipe, an unknown key, or a value of the wrong kind; the message names it.

    >>> load_recipe("digits-demo", ["--gated.epochs", "3", "--budget=0.4"]).gated.epochs
    3

    """
    return parse_recipe(fields_of(source), overrides, str(source))


def fields_of(source: str | Path) -> dict[str, Any]:
    """What a recipe's file sets, over what its bases set: plain data, not yet checked."""
    found = find_recipe(source)
    return _read(found) if isinstance(found, Path) else _over_bases(found, Path.cwd(), f"recipe '{source}'", ())


def field_names() -> tuple[str, ...]:
    """The fields of a recipe, nested ones with dots.

    >>> "gated.epochs" in field_names()
    True
    """
    options = (option for action in recipe_parser()._actions for option in action.option_strings)
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
    return str(recipe_parser().format_help())


def parse_recipe(fields: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "given") -> Recipe:
    """The recipe that plain data describe, with overrides; `source` is named in errors."""
    import jsonargparse

    parser = recipe_parser()
    try:
        parser.set_defaults(parser.parse_object({**fields}).as_dict())
        return Recipe(**parser.instantiate(parser.parse_args([*overrides])).as_dict())
    except (jsonargparse.ArgumentError, ConvgateError, OSError) as error:
        changes = f" with {' '.join(overrides)}" if overrides else ""
        raise RecipeError(
            f"recipe {source}{changes}: {error}. `convgate recipe --fields` describes the fields"
        ) from error


def recipe_parser() -> "jsonargparse.ArgumentParser":
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
