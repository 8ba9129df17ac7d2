"""The folder of a run: whose it is, and how long its steps took."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from convgate.errors import RecipeError
from convgate.files import write_text
from convgate.runs.origin import Origin
from convgate.recipes.recipe import Recipe, dump_recipe

__all__ = ["RunFolder"]

_RECIPE, _ORIGIN, _TIMING = "recipe.yaml", "origin.json", "timing.json"
_FOLDERS = ("dense", "gated", "finish")
_FILES = (
    _ORIGIN,
    _TIMING,
    "dense.safetensors",
    "gated.safetensors",
    "finished.safetensors",
    "network.safetensors",
    "metrics.json",
    "report.html",
    _RECIPE,
)


class RunFolder:
    """Where one recipe's run keeps its files; `path / name` for each of them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def holds_other_run(self, recipe: Recipe) -> bool:
        """Is there a run of another recipe?"""
        path = self / _RECIPE
        return path.is_file() and path.read_text(encoding="utf-8") != dump_recipe(recipe)

    def claim(self, recipe: Recipe, origin: Origin | None = None) -> None:
        """Make the folder this recipe's, and note where it comes from. Raises `RecipeError` if it is another's."""
        if self.holds_other_run(recipe):
            raise RecipeError(
                f"{self.path} holds a run of another recipe ({self / _RECIPE} differs from the one given); choose "
                "another folder, or delete that one"
            )
        if origin is not None and not (self / _ORIGIN).is_file():
            write_text(self / _ORIGIN, json.dumps(asdict(origin), indent=2) + "\n")
        if not (self / _RECIPE).is_file():
            write_text(self / _RECIPE, dump_recipe(recipe))

    def origin(self) -> Origin | None:
        """Where the run that is here comes from, if that was noted."""
        path = self / _ORIGIN
        return Origin.from_data(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def discard(self) -> None:
        """Delete what a run wrote, and nothing else; does nothing in the later ones of several processes.

        Raises `RecipeError` for a folder that holds something, but no run.
        """
        if os.environ.get("LOCAL_RANK", "0") != "0" or not self.path.exists():
            return
        if not (self / _RECIPE).is_file() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RecipeError(f"{self.path} is not the folder of a run (it has no {_RECIPE}); nothing was deleted")
        for name in _FOLDERS:
            shutil.rmtree(self / name, ignore_errors=True)
        for name in _FILES:
            (self / name).unlink(missing_ok=True)

    def add_seconds(self, step: str, seconds: float) -> None:
        """Note that a step took so long; a step that was interrupted counts what its last part took."""
        write_text(self / _TIMING, json.dumps({**self.seconds(), step: round(seconds, 1)}) + "\n")

    def seconds(self) -> dict[str, float]:
        """Step -> how long it took."""
        path = self / _TIMING
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
