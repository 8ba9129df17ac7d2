"""One recipe at several budgets: accuracy against MACs and against latency."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from convgate.errors import RecipeError
from convgate.runs.record import Record, record_of, to_csv
from convgate.files import replacing, write_text
from convgate.methods import METHODS
from convgate.runs.folder import RunFolder
from convgate.recipes.recipe import MethodChoice, load_recipe
from convgate.runs.start import planned, start

__all__ = ["pareto", "sweep"]


def sweep(
    source: str | Path,
    overrides: Sequence[str],
    budgets: Sequence[float],
    folder: str | Path,
    *,
    epochs: int | None = None,
    minutes: float | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress_bar: bool = True,
) -> list[Record]:
    """Carry out the recipe once for each budget, each run in a folder of its own below `folder`; writes sweep.csv.

    A run that is finished is not done again, one that was interrupted is continued. The dense network is trained once.

    Args:
        source: a recipe's path or name.
        overrides: as `load_recipe` takes them.
        budgets: shares of the dense MACs.
        folder: where.
        epochs: as `training.start` takes it.
        minutes: likewise, of each run.
        say: takes one line of news at a time.
        progress_bar: show Lightning's.

    Raises:
        RecipeError: no budgets, or a budget that is no share.

    """
    home = Path(folder)
    if not budgets or len(set(budgets)) < len(budgets) or not all(0 < budget <= 1 for budget in budgets):
        raise RecipeError(f"budgets {list(budgets)}: give different shares of the dense MACs, each in (0, 1]")
    records: list[Record] = []
    dense: Path | None = None
    for budget in budgets:
        below = RunFolder(home / f"{home.name}-{budget:g}")  # a name that says what it is in tables of many runs
        changes = [*overrides, f"--budget={budget:g}"]
        say(f"{budget:.1%} of the dense MACs, in {below.path}")
        if dense is not None and not (below / "dense.safetensors").is_file():
            with replacing(below / "dense.safetensors") as temporary:
                shutil.copyfile(dense, temporary)
        recipe = planned(source, changes, below.path, epochs=epochs, minutes=minutes)
        if not (below / "metrics.json").is_file() or recipe is None or below.holds_other_run(recipe):
            start(source, changes, below.path, epochs=epochs, minutes=minutes, say=say, progress_bar=progress_bar)
        dense = below / "dense.safetensors"
        records.append(record_of(below.path))
        write_text(home / "sweep.csv", to_csv(records))
    return records


def pareto(records: Sequence[Record], cost: Callable[[Record], float | None]) -> list[Record]:
    """The records that no other beats in both accuracy and `cost`, cheapest first; those without a cost left out."""
    chosen: list[Record] = []
    known = [(value, record) for record in records if (value := cost(record)) is not None]
    for _, record in sorted(known, key=lambda pair: (pair[0], -pair[1].accuracy)):
        if not chosen or record.accuracy > chosen[-1].accuracy:
            chosen.append(record)
    return chosen
