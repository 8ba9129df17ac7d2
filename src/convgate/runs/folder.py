"""The folder of a run: where its files are, whose it is, and how long its steps took."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convgate.analysis import Metrics
from convgate.errors import CheckpointError, RecipeError
from convgate.files import write_text
from convgate.recipes.identity import differences, is_free, with_start, with_start_stated
from convgate.recipes.read import dump_recipe, fields_of, parse_recipe
from convgate.recipes.recipe import Recipe
from convgate.recipes.stages import DenseStage, FinishStage, GatedStage, Stage
from convgate.runs.origin import Origin

__all__ = ["RunFolder"]

_LOG = logging.getLogger(__name__)

_AFTER = {DenseStage: "dense.safetensors", GatedStage: "gated.safetensors", FinishStage: "finished.safetensors"}


class RunFolder:
    """Where one recipe's run keeps its files.

    Attributes:
        recipe: all fields of the run's recipe.
        origin: where the recipe comes from, see `Origin`.
        timing: how long each step took.
        latency: the model of the engine's times, of a recipe that asks for milliseconds.
        network: the calibrated network, see `convgate.load`.
        metrics: the figures of the finished run.
        report: the page of pictures.
        lock: held by the process that works on the run; see `held`.

    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.origin = self.path / "origin.json"
        self.timing = self.path / "timing.json"
        self.latency = self.path / "latency.json"
        self.network = self.path / "network.safetensors"
        self.metrics = self.path / "metrics.json"
        self.report = self.path / "report.html"
        self.lock = self.path / ".lock"

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def after(self, stage: Stage | type[Stage]) -> Path:
        """The network as a stage left it: dense a state dict, later ones see `convgate.load`."""
        return self.path / _AFTER[stage if isinstance(stage, type) else type(stage)]

    def during(self, stage: Stage | type[Stage]) -> Path:
        """The folder of a stage's checkpoint and epochs."""
        return self.path / stage.name

    def epochs(self, stage: Stage | type[Stage]) -> Path:
        """The table of a stage's epochs."""
        return self.during(stage) / "epochs.csv"

    # -- whose it is -----------------------------------------------------------------------------------------------

    def check(self, recipe: Recipe) -> None:
        """Raise `RecipeError` if there is a run here that this recipe does not continue.

        A recipe continues a run if it differs in nothing that changes the result; see `convgate.recipes.identity`.
        """
        if not self.recipe.is_file():
            return
        bound = {k: v for k, v in self._differences(recipe).items() if not is_free(k, *v)}
        if bound:
            raise RecipeError(
                f"{self.path} holds a run of another recipe ({_told(bound)}). Choose another folder, or delete that one"
            )

    def holds_other_run(self, recipe: Recipe) -> bool:
        """Whether there is a run here that this recipe does not continue."""
        try:
            self.check(recipe)
        except RecipeError:
            return True
        return False

    def claim(self, recipe: Recipe, origin: Origin | None = None) -> None:
        """Make the folder this recipe's, and note where it comes from. Raises `RecipeError` if it is another's."""
        self.check(recipe)
        if origin is not None and not self.origin.is_file():
            write_text(self.origin, json.dumps(asdict(origin), indent=2) + "\n")
        changed = self._differences(recipe) if self.recipe.is_file() else {}
        if changed:
            _LOG.info("continuing the run in %s with other settings (%s)", self.path, _told(changed))
        if changed or not self.recipe.is_file():
            write_text(self.recipe, dump_recipe(with_start_stated(recipe)))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from the run meanwhile. Raises `RecipeError` where one is at work on it."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RecipeError(
                f"another process is at work on the run in {self.path}; wait until it ends, or choose another folder"
            ) from None
        except NotImplementedError:
            _LOG.info("files in %s cannot be locked: let no two processes work on one run", self.path)
        try:
            yield
        finally:
            lock.release()

    def _differences(self, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
        return differences(self.read_recipe(), with_start_stated(recipe))

    def read_recipe(self, overrides: Sequence[str] = ()) -> Recipe:
        """The recipe of the run that is here, which says where its gates started.

        Runs of earlier versions do not say it: theirs started as the papers' do. Raises `RecipeError`.
        """
        return parse_recipe(with_start(fields_of(self.recipe), "paper"), overrides, str(self.recipe), past=True)

    def read_origin(self) -> Origin | None:
        """Where the run that is here comes from, if that was noted. Raises `CheckpointError` for a damaged note."""
        if not self.origin.is_file():
            return None
        with _undamaged(self.origin, "delete it, and nothing is known of where the run comes from"):
            return Origin.from_data(json.loads(self.origin.read_text(encoding="utf-8")))

    def read_metrics(self) -> Metrics | None:
        """The figures of the run that is here, if it is finished. Raises `CheckpointError` for damaged ones."""
        if not self.metrics.is_file():
            return None
        with _undamaged(self.metrics, "`convgate train` writes it again"):
            text = self.metrics.read_text(encoding="utf-8")
        return Metrics.from_json(text, str(self.metrics))

    # -- what is left of it ----------------------------------------------------------------------------------------

    def is_finished(self, recipe: Recipe) -> bool:
        """Whether all is here, and undamaged, that a run of the recipe ends with."""
        paths = [self.after(stage) for stage in recipe.stages if stage.leaves_a_network]
        if not recipe.method.is_static:
            paths.append(self.report)
        try:
            return self.read_metrics() is not None and all(path.is_file() for path in (*paths, self.network))
        except CheckpointError:
            return False

    def has_begun(self) -> bool:
        """Whether there is anything of training here that a later run would continue from."""
        return any(self.after(kind).exists() or self.during(kind).exists() for kind in _AFTER)

    def discard(self) -> None:
        """Delete what a run wrote, and nothing else; the folder, too, if it is then empty.

        Does nothing in the later ones of several processes. Raises `RecipeError` for a folder that holds something, but
        no run.
        """
        if os.environ.get("LOCAL_RANK", "0") != "0" or not self.path.exists():
            return
        if not self.recipe.is_file() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RecipeError(f"{self.path} is not the folder of a run (it has no recipe.yaml); nothing was deleted")
        for kind in _AFTER:
            shutil.rmtree(self.during(kind), ignore_errors=True)
            self.after(kind).unlink(missing_ok=True)
        for path in (self.origin, self.timing, self.latency, self.network, self.metrics, self.report, self.recipe):
            path.unlink(missing_ok=True)
        with suppress(PermissionError):  # of a file that is open, on Windows
            self.lock.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    # -- how long it took ------------------------------------------------------------------------------------------

    def add_seconds(self, step: str, seconds: float) -> None:
        """Note that a step took so long; of a step that was interrupted, its last part counts."""
        write_text(self.timing, json.dumps({**self.seconds(), step: round(seconds, 1)}) + "\n")

    def seconds(self) -> dict[str, float]:
        """Step -> how long it took. Raises `CheckpointError` for a damaged note."""
        if not self.timing.is_file():
            return {}
        with _undamaged(self.timing, "delete it, and steps that are over count as having taken no time"):
            found = json.loads(self.timing.read_text(encoding="utf-8"))
            return {str(step): float(seconds) for step, seconds in found.items()}


@contextmanager
def _undamaged(path: Path, remedy: str) -> Iterator[None]:
    """Tell what reading a file of JSON raises as a `CheckpointError`."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}); {remedy}") from error


def _told(changes: dict[str, tuple[Any, Any]]) -> str:
    shown = [f"{field}: {old} there, {new} now" for field, (old, new) in changes.items()]
    return "; ".join(shown[:4]) + (f"; and {len(shown) - 4} more" if len(shown) > 4 else "")
