"""The record of a finished run: one row of plain values, from what its folder holds."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from convgate.analysis import Metrics
from convgate.engine.precision import Precision
from convgate.errors import RecipeError
from convgate.methods import METHODS
from convgate.recipes.identity import settings_of
from convgate.recipes.recipe import Recipe
from convgate.runs.command import again, as_started
from convgate.runs.run import Run
from convgate.suggestions import same_name

__all__ = ["Record", "read_csv", "record_of", "to_csv"]

_NO_METHOD = "none"
_IN = {"accuracy", "dense_accuracy", "macs_share", "ms", "dense_ms"}


@dataclass(frozen=True)
class Record:
    """A finished run. Shares and accuracies are in [0, 1]; what is not known is None.

    Attributes:
        run: the folder's name.
        recipe: the recipe's name.
        network: the model's name.
        method: the method's name; "none" of a network without gates.
        teacher: whose predictions were distilled: "dense network", that of the row; or another's name; "": none.
        data: the data set's name.
        seed: seed of everything random.
        budget: what was calibrated to.
        accuracy: accuracy of the gated network on the test images.
        dense_accuracy: accuracy of the network before gating.
        macs_share: share of the dense MACs, mean over the test images.
        macs_p5: 5th percentile of the share over the test images.
        macs_p95: 95th percentile of the share over the test images.
        dense_macs: MACs of the ungated network, per image.
        test_images: how many test images there are.
        epochs: epochs that were run, by stage: "gated 30, finish 7".
        full_epochs: epochs of the recipe as it is shipped, by stage.
        minutes: what training was cut to, if it was.
        seconds: time of all steps together.
        latency_dense_ms: median for one image on the engine, before gating.
        latency_gated_ms: median for one image on the engine, gated.
        latency_threads: threads of the engine.
        commit: commit of convgate when the run started.
        started: date and time, UTC.
        machine: the machine on which it ended.
        torch: version of torch.
        static_accuracy: accuracy with each unit fixed at its majority over training images.
        static_macs_share: share of the dense MACs that is then spent.
        changing: the share of the gates' units that change from image to image.
        measured: "validation" if the figures are of held-out images, not of test images.
        control: what it is to another recipe, if it is a control; and
        control_of: to which one.
        command: how it was asked for, see `runs.command`.
        settings: all that its recipe set, in JSON.
        note: what else a reader must know of the run.
        precisions: what the engine answers in others than float32, in JSON; see `in_precisions`.

    """

    run: str
    recipe: str
    network: str
    method: str
    teacher: str
    data: str
    seed: int
    budget: float | None
    accuracy: float
    dense_accuracy: float | None
    macs_share: float
    macs_p5: float
    macs_p95: float
    dense_macs: int
    test_images: int
    epochs: str
    full_epochs: str
    minutes: float | None
    seconds: float
    latency_dense_ms: float | None
    latency_gated_ms: float | None
    latency_threads: int | None
    commit: str | None
    started: str | None
    machine: str
    torch: str
    command: str | None
    settings: str
    static_accuracy: float | None = None
    static_macs_share: float | None = None
    changing: float | None = None
    measured: str = "test"
    control: str = ""
    control_of: str = ""
    note: str = ""
    precisions: str = ""

    @property
    def in_precisions(self) -> dict[str, dict[str, float | None]]:
        """Precision -> "accuracy", "dense_accuracy", "macs_share", "ms" and "dense_ms" in it; None: not known."""
        found = json.loads(self.precisions or "{}")
        if not isinstance(found, dict) or not all(
            isinstance(one, dict) and one.keys() >= _IN for one in found.values()
        ):
            raise TypeError(f"precisions are {self.precisions}")
        return found

    @property
    def is_gated(self) -> bool:
        """Whether it has gates that decide, or masks in their place."""
        return self.method != _NO_METHOD

    @property
    def options(self) -> dict[str, Any]:
        """The method's options, those that its recipe leaves alone left out."""
        found = json.loads(self.settings or "{}").get("method", {}).get("options", {})
        if not isinstance(found, dict):
            raise TypeError(f"the method's options are {found!r}")
        return found

    @property
    def again(self) -> str | None:
        """The command that reproduces it."""
        return again(self.recipe, json.loads(self.settings or "{}")) or self.command


def record_of(run: Run | str | Path) -> Record:
    """The record of a finished run, or of the one in a folder. Raises `RecipeError` if there is none."""
    run = run if isinstance(run, Run) else Run.load(run)
    recipe, origin, metrics, latency = run.recipe, run.origin, run.finished, run.finished.latency
    static = metrics.static
    return Record(
        run=run.name,
        recipe=Path(origin.recipe).stem if origin else "",
        network=recipe.model.name,
        method=_method(recipe),
        teacher=_teacher(recipe),
        data=recipe.data.name,
        seed=recipe.seed,
        budget=recipe.budget,
        accuracy=metrics.gated.accuracy,
        dense_accuracy=metrics.dense.accuracy,
        macs_share=metrics.gated.macs_ratio,
        macs_p5=metrics.gated.macs_percentiles["5"],
        macs_p95=metrics.gated.macs_percentiles["95"],
        dense_macs=metrics.dense.macs,
        test_images=metrics.test_images,
        epochs=_epochs(recipe.epochs),
        full_epochs=_epochs(origin.full) if origin else "",
        minutes=origin.minutes if origin else None,
        seconds=round(sum(metrics.seconds.values()), 1),
        latency_dense_ms=round(latency.dense.median_ms, 4) if latency else None,
        latency_gated_ms=round(latency.gated.median_ms, 4) if latency else None,
        latency_threads=latency.threads if latency else None,
        commit=origin.commit if origin else None,
        started=origin.started if origin else None,
        machine=metrics.machine,
        torch=metrics.versions["torch"],
        command=as_started(origin) if origin else None,
        settings=json.dumps(settings_of(recipe)),
        static_accuracy=static.accuracy if static else None,
        static_macs_share=static.macs_ratio if static else None,
        changing=static.changing if static else None,
        measured=recipe.measured,
        control=recipe.control,
        control_of=recipe.control_of,
        precisions=_precisions(metrics),
    )


def to_csv(records: Iterable[Record]) -> str:
    """A table with a header, one row a record."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Record)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in records)
    return text.getvalue()


def read_csv(path: str | Path) -> list[Record]:
    """The records in a table that `to_csv` wrote. Raises `RecipeError` for another table, or a damaged one."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            return [_record(row) for row in csv.DictReader(file)]
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        raise RecipeError(
            f"{path} is not a table of runs ({error!r}); `convgate results --add RUN` writes one"
        ) from error


def _record(row: Mapping[str | Any, str | Any]) -> Record:
    if None in row:
        raise ValueError("a row has more cells than the head line")
    young = {field.name for field in fields(Record) if field.default is not MISSING}  # not in older tables
    kinds = {name: kind for name, kind in get_type_hints(Record).items() if name in row or name not in young}
    found = Record(**{name: _parsed(row[name], kind) for name, kind in kinds.items()})
    _ = found.options, found.in_precisions  # told here if they cannot be read, and not where a page is written
    return found


def _parsed(text: str | None, kind: Any) -> Any:
    """A cell's text as a value of `int`, `float`, `str`, or one of them or None."""
    if text is None:
        raise ValueError("a row has fewer cells than the head line")
    if not text and type(None) in get_args(kind):
        return None
    return (get_args(kind) or (kind,))[0](text)


def _precisions(metrics: Metrics) -> str:
    timed = metrics.latency.precisions if metrics.latency else {}

    def ms(which: str, name: str) -> float | None:
        both = timed.get(name, {})
        return round(both[which].median_ms, 4) if which in both else None

    found = {
        name: {
            "accuracy": one.accuracy,
            "dense_accuracy": one.dense_accuracy,
            "macs_share": one.macs_ratio,
            "ms": ms("gated", name),
            "dense_ms": ms("dense", name),
        }
        for name, one in metrics.precisions.items()
        if Precision(name) is not Precision.FLOAT32
    }
    return json.dumps(found) if found else ""


def _method(recipe: Recipe) -> str:
    """The method's name, with those of the methods that its options name."""
    if recipe.method.name is None:
        return _NO_METHOD
    if recipe.method.masks != "learned":
        return f"fixed {recipe.method.masks} masks of {recipe.method.name}"
    parts = [name for name in _names(recipe.method.options) if same_name(name, METHODS)]
    return f"{recipe.method.name}({', '.join(parts)})" if parts else recipe.method.name


def _teacher(recipe: Recipe) -> str:
    teacher = recipe.distillation.teacher
    if recipe.distillation.weight == 0:
        return ""
    if teacher is None:
        return "dense network"
    # A control that is another form of the row's network is taught by the row's.
    changed = recipe.model.options != teacher.options
    is_form = changed and teacher.options.keys() <= recipe.model.options.keys()
    return "dense network" if recipe.control and is_form and teacher.name == recipe.model.name else teacher.name


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("name"), str):
            yield value["name"]
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _names(item)


def _epochs(epochs: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in epochs.items() if n)
