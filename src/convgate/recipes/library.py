"""Recipes by name: those that come with convgate, and those that other packages register. Imports neither torch nor
YAML, so that a misspelt name is answered at once.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from convgate.errors import RecipeError
from convgate.suggestions import did_you_mean

__all__ = ["find_recipe", "list_recipes", "register_recipe"]

Source = Callable[[], Mapping[str, Any] | Path]
AnySource = TypeVar("AnySource", bound=Source)

_SHIPPED = Path(__file__).parent / "shipped"
_REGISTERED: dict[str, Source] = {}


def register_recipe(name: str) -> Callable[[AnySource], AnySource]:
    """Decorator for a function that returns a recipe: its fields as a YAML file would hold them, or such a file's path.

    Args:
        name: what `convgate train NAME` and `load_recipe` find it by.

    Raises:
        RecipeError: the name is taken.

    >>> @register_recipe("digits-for-an-hour")
    ... def digits_for_an_hour():
    ...     return {"base": "digits-demo", "gated": {"epochs": 200}}
    >>> "digits-for-an-hour" in list_recipes("digits-*")
    True
    >>> _ = _REGISTERED.pop("digits-for-an-hour")

    """

    def register(source: AnySource) -> AnySource:
        if name in _REGISTERED or name in _shipped():
            raise RecipeError(f"there is already a recipe named '{name}'; choose another name")
        _REGISTERED[name] = source
        return source

    return register


def list_recipes(pattern: str = "*") -> list[str]:
    """The names of all recipes that match a shell pattern, in alphabetical order.

    >>> list_recipes("digits-demo")
    ['digits-demo']
    """
    return sorted(name for name in {*_shipped(), *_REGISTERED} if fnmatchcase(name, pattern))


def find_recipe(source: str | Path) -> Mapping[str, Any] | Path:
    """The file or the fields that a path or a name stands for. Raises `RecipeError` if it stands for nothing."""
    path, name = Path(source), str(source)
    if path.is_file():
        return path
    if name in _REGISTERED:
        return _REGISTERED[name]()
    if name in _shipped():
        return _shipped()[name]
    meant = did_you_mean(name, list_recipes(), 3)
    raise RecipeError(f"there is no recipe file and no recipe named '{name}'{meant} `convgate recipe` lists them")


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in _SHIPPED.glob("*.yaml")}
