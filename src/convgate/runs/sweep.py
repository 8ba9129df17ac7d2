"""One recipe at several budgets: accuracy against MACs and against latency."""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from convgate.errors import LoweringError, RecipeError
from convgate.files import replacing, write_text
from convgate.recipes.request import Request
from convgate.recipes.stages import DenseStage
from convgate.runs.evaluate import evaluate_run
from convgate.runs.folder import RunFolder
from convgate.runs.launch import train
from convgate.runs.precisions import check_precisions
from convgate.runs.record import Record, record_of, to_csv
from convgate.runs.run import Run

__all__ = ["pareto", "sweep"]

_LOG = logging.getLogger(__name__)


class _Accurate(Protocol):
    """A run, or several as one point of a figure."""

    @property
    def accuracy(self) -> float:
        """In any unit, the same for all."""
        ...


AnyRun = TypeVar("AnyRun", bound=_Accurate)


def sweep(
    request: Request,
    budgets: Sequence[float],
    folder: str | Path,
    *,
    precisions: Sequence[str] = (),
    progress: bool = True,
) -> list[Record]:
    """Carry out a request once for each budget, each run in its own folder below `folder`; writes sweep.csv.

    A run that is finished is not repeated, one that was interrupted is continued. The dense network is trained once.

    Args:
        request: the recipe, its changes and its length.
        budgets: shares of the dense MACs.
        folder: where the runs' folders are.
        precisions: what the engine answers in these is measured, too, and timed as the recipe says; see `evaluate_run`.
        progress: show progress bars.

    Raises:
        RecipeError: no budgets, a budget that is not a share, or a control that has none; precisions of fixed masks.
        InputError: there is no such precision.

    """
    home = Path(folder)
    if not budgets or len(set(budgets)) < len(budgets) or not all(0 < budget <= 1 for budget in budgets):
        raise RecipeError(f"budgets {list(budgets)}: give different shares of the dense MACs, each in (0, 1]")
    check_precisions(precisions)
    first = request.changed([f"--budget={_written(budgets[0])}"]).recipe
    if precisions and first.method.masks != "learned":
        raise RecipeError(f"{request.source} has fixed masks, for which no engine is made in {', '.join(precisions)}")
    if first.budget is None:
        raise RecipeError(f"{request.source} has no budget, so there is nothing to sweep; `convgate train` runs it")
    records: list[Record] = []
    dense: Path | None = None
    for budget in budgets:
        # Names say what they are in tables of many runs; "." has one, too.
        below = RunFolder(home / f"{Path(os.path.abspath(home)).name}-{_written(budget)}")
        asked = request.changed([f"--budget={_written(budget)}"])
        _LOG.info("%.1f%% of the dense MACs, in %s", 100 * budget, below.path)
        weights = below.after(DenseStage)
        if dense is not None and not weights.is_file():
            with replacing(weights) as temporary:
                shutil.copyfile(dense, temporary)
        train(asked, below.path, progress=progress)
        dense = weights
        if precisions:
            _measure(Run.load(below.path), precisions)
        records.append(record_of(below.path))
        write_text(home / "sweep.csv", to_csv(records))
    return records


def _measure(run: Run, precisions: Sequence[str]) -> None:
    """What the engine answers in the precisions in which that is not known yet, or not timed as float32 is."""
    metrics, seconds = run.finished, run.recipe.hardware.timing_seconds
    known = set(metrics.precisions)
    if metrics.latency is not None and seconds > 0:
        known &= set(metrics.latency.precisions)
    if set(precisions) <= known:
        return
    try:
        evaluate_run(run, seconds=seconds, precisions=precisions, save=True)
    except LoweringError as error:
        _LOG.info("not measured in %s: %s", ", ".join(precisions), error)


def _written(budget: float) -> str:
    """The number in few digits, but in all that it takes to tell it from others."""
    short = f"{budget:g}"
    return short if float(short) == budget else repr(float(budget))


def pareto(runs: Sequence[AnyRun], cost: Callable[[AnyRun], float | None]) -> list[AnyRun]:
    """The runs that no other beats in both accuracy and `cost`, cheapest first; those without a cost left out."""
    chosen: list[AnyRun] = []
    known = [(value, run) for run in runs if (value := cost(run)) is not None]
    for _, run in sorted(known, key=lambda pair: (pair[0], -pair[1].accuracy)):
        if not chosen or run.accuracy > chosen[-1].accuracy:
            chosen.append(run)
    return chosen
