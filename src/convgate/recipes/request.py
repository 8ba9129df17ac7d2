"""What somebody asks for when starting a run: a recipe, changes to it, and how long it may take."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from convgate.errors import RecipeError
from convgate.recipes.controls import derived, split_name
from convgate.recipes.read import fields_of, parse_recipe
from convgate.recipes.recipe import Recipe
from convgate.recipes.schedule import for_epochs

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """A recipe with changes, read once.

    Args:
        source: a recipe's path or name, with @CONTROL behind it for a control (see `convgate.recipes.controls`).
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
        return self._derived(parse_recipe(self._fields, (), str(self.source)))

    @cached_property
    def row(self) -> Recipe:
        """The recipe with all changes but `minutes`; of a control, that of its row. Raises `RecipeError`."""
        changed = parse_recipe(self._fields, self.overrides, str(self.source))
        return changed if self.epochs is None else for_epochs(changed, self.epochs)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe with all changes but `minutes`. Raises `RecipeError`."""
        if self.control and self.minutes is not None:
            raise RecipeError(f"{self.source} has the length of its row; give a number of epochs instead of minutes")
        return self._derived(self.row)

    @property
    def control(self) -> str:
        """The name of the control that is asked for, or ""."""
        return "" if Path(self.source).is_file() else split_name(str(self.source))[1]

    def _derived(self, row: Recipe) -> Recipe:
        if not self.control:
            return row
        written = parse_recipe(self._fields, (), str(self.source))
        return derived(row, self.control, of=split_name(str(self.source))[0], written=written)

    def changed(self, overrides: Sequence[str]) -> "Request":
        """The same request with further changes, which win over the earlier ones."""
        return Request(self.source, (*self.overrides, *overrides), self.epochs, self.minutes)

    @cached_property
    def _fields(self) -> dict[str, object]:
        return fields_of(self.source)
