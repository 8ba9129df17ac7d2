"""What somebody asks for when starting a run: a recipe, changes to it, and how long it may take."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from convgate.recipes.read import fields_of, parse_recipe
from convgate.recipes.recipe import Recipe
from convgate.recipes.schedule import for_epochs

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """A recipe with changes, read once.

    Args:
        source: a recipe's path or name.
        overrides: changes as on the command line, e.g. ("--gated.epochs=3", "--seed", "1").
        epochs: how many epochs of gated training; the other stages in proportion (see `recipes.schedule`).
        minutes: how long training may take on this machine; the epochs are found when the run starts.

    """

    source: str | Path
    overrides: tuple[str, ...] = ()
    epochs: int | None = None
    minutes: float | None = None

    @cached_property
    def as_written(self) -> Recipe:
        """The recipe without any changes. Raises `RecipeError`."""
        return parse_recipe(self._fields, (), str(self.source))

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe with all changes but `minutes`. Raises `RecipeError`."""
        changed = parse_recipe(self._fields, self.overrides, str(self.source))
        return changed if self.epochs is None else for_epochs(changed, self.epochs)

    def changed(self, overrides: Sequence[str]) -> "Request":
        """The same request with further changes, which win over the earlier ones."""
        return Request(self.source, (*self.overrides, *overrides), self.epochs, self.minutes)

    @cached_property
    def _fields(self) -> dict[str, object]:
        return fields_of(self.source)
