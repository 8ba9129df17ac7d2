"""Where a run comes from: the recipe's name, what was changed on the command line, how the schedule was cut, the code.

Written once, when the run starts, and never updated. What a continued run is, its recipe.yaml says.
"""

import datetime
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convgate.recipes.recipe import Recipe
from convgate.recipes.request import Request

__all__ = ["Origin", "commit"]


@dataclass(frozen=True)
class Origin:
    """Where a run comes from.

    Attributes:
        recipe: the recipe's name or file, as given.
        overrides: what was changed, as on the command line.
        full: stage -> epochs of the recipe as it is shipped.
        run: stage -> epochs that are run.
        minutes: how long training was allowed to take, if the schedule was cut to that.
        images_per_s: stage -> training speed that was measured to cut it; empty if it was not.
        commit: of convgate's source when the run started, with "+" if files differed; None outside a repository.
        started: date and time, UTC.

    """

    recipe: str
    overrides: tuple[str, ...]
    full: Mapping[str, int]
    run: Mapping[str, int]
    minutes: float | None = None
    images_per_s: Mapping[str, float] = field(default_factory=dict)
    commit: str | None = None
    started: str = ""

    @staticmethod
    def now(request: Request, recipe: Recipe, images_per_s: Mapping[str, float] | None = None) -> "Origin":
        """That of a run which starts now: `recipe` is what the request has become."""
        # A control is made of its row as it is run, so it is the row's epochs that reproduce it.
        epochs = [f"--{name}.epochs={n}" for name, n in request.row.epochs.items()] if request.control else []
        return Origin(
            recipe=str(request.source),
            overrides=(*request.overrides, *epochs),
            full=request.as_written.epochs,
            run=recipe.epochs,
            minutes=request.minutes,
            images_per_s=dict(images_per_s or {}),
            commit=commit(),
            started=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S"),
        )

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Origin":
        """The inverse of `dataclasses.asdict`, which gives plain data."""
        return Origin(**{**data, "overrides": tuple(data["overrides"])})


def commit() -> str | None:
    """The commit of the repository that convgate's source is in, "+" behind it if files differ; None if in none."""
    folder = Path(__file__).parent
    try:
        # The source must be in it: an environment inside of somebody's repository is not ours.
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        head = _git(folder, "rev-parse", "--short=10", "HEAD")
        return head + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *command: str) -> str:
    done = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()
