"""The page of results: what was measured here, each beside the paper's number and the command that reproduces it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from convgate.errors import RecipeError
from convgate.files import write_text
from convgate.recipes.controls import list_controls
from convgate.recipes.identity import same_settings
from convgate.runs.compare import milliseconds
from convgate.runs.figure import against
from convgate.runs.groups import GATED, Group, groups
from convgate.runs.record import Record, read_csv, record_of, to_csv

__all__ = ["Published", "add", "read_published", "write_page"]

_PUBLISHED, _PAGE = "published.yaml", "README.md"
_WRITTEN = "Written by `convgate results FOLDER`"

_HEAD = """\
# {title}

{written} from the CSV files in this folder, one for each run; nothing is entered by hand.
Accuracy is that of the last epoch, on all test images unless the row says that it is on held-out ones.
`docs/design/training.md` explains how settings were chosen, and which choices used test images. MACs are
the ledger's, gates included, as a share of the dense network's. Milliseconds are medians for one image at a time in
float32 on convgate's engine; the dense network's differ from row to row with the machine's state, so compare within a
row; a dash: the engine has no form for the method, or it was not timed. "Teacher" is whose predictions were distilled:
the ungated network's own, or a larger one's. "Dense" is the network before gating, which had none of the row's further
training; the control of that name shows what that training alone is worth. "Epochs" says what was run, of what the
recipe runs in full.
"""

_IN_PRECISIONS = """\
## In bfloat16 and 8-bit integers

What the engine answers, dense and gated, on the same images (in float32 what PyTorch does), the share of the dense MACs
that it executes, and milliseconds for one image at a time; those of a row were timed in turns. Training images chose
the scales of the integers.
"""

_BESIDE = """\
## Beside their controls

A control has all that its row has (length, decay, augmentation, teacher) but for what its name says:

{controls}

"Gain" is how much more accurate the row is than the control, in points, with the standard error over the seeds that
both were run with; without an error it is of one seed, and a difference of two such accuracies has a sampling error of
about {sampling} points from the images alone. "Fixed" is the same network with each gate's unit fixed at what it
decides for most training images: where that is as accurate at as many MACs, gating did no more than pruning does.
"Changing" is the share of units that are open for some images and closed for others. MACs are shares of the row's dense
network's; those of fixed ones leave the gates out, which are not computed.
"""


@dataclass(frozen=True)
class Published:
    """What a paper reports for one of its rows.

    Attributes:
        paper: short name, venue, year.
        source: table, section, or where else the number was read.
        network: the paper's name for it.
        data: the data set.
        what: the paper's name for the row, with its target.
        result: the numbers, in words.
        recipes: of ours that are comparable.

    """

    paper: str
    source: str
    network: str
    data: str
    what: str
    result: str
    recipes: tuple[str, ...]


def add(runs: Sequence[str | Path], folder: str | Path, note: str = "") -> list[Path]:
    """Write the record of each finished run into `folder`, as a CSV file of the run's name.

    `note`: what else a reader must know of these runs; the page has it beside the commands.

    A run that is there already is replaced. Raises `RecipeError`, and writes nothing, where another run has its name,
    or the folder's README.md is no page of results.
    """
    _check_page(Path(folder))
    found: dict[Path, Record] = {}
    for run in runs:
        record = replace(record_of(run), note=note)
        path = Path(folder) / f"{record.run}.csv"
        for other in [found[path]] if path in found else read_csv(path) if path.is_file() else []:
            if not _one_run(other, record):
                raise RecipeError(
                    f"{run} is not the run '{record.run}' in {path}: its recipe or its settings are others. Rename the "
                    f"run's folder, or delete {path}"
                )
        found[path] = record
    for path, record in found.items():
        write_text(path, to_csv([record]))
    return list(found)


def _check_page(home: Path) -> Path:
    page = home / _PAGE
    if page.is_file() and _WRITTEN not in page.read_text(encoding="utf-8", errors="replace"):
        raise RecipeError(f"{page} is not a page of results, which would replace it; give a folder of its own")
    return page


def _one_run(old: Record, new: Record) -> bool:
    if (old.recipe, old.seed, old.control, old.epochs) != (new.recipe, new.seed, new.control, new.epochs):
        return False
    return same_settings(*(json.loads(record.settings or "{}") for record in (old, new)))


def read_published(path: str | Path) -> list[Published]:
    """The papers' numbers in a YAML file. Raises `RecipeError` for a file of another form."""
    import yaml

    try:
        rows = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return [Published(**{**row, "recipes": tuple(row["recipes"])}) for row in rows]
    except (TypeError, KeyError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} is not a list of published numbers: {error}") from error


def write_page(folder: str | Path) -> Path:
    """Write README.md in `folder` from its CSV files and its published.yaml, if that is there, and a figure a network.

    Folders in it that have such pages are named: runs that are to be compared with each other alone.

    Raises `RecipeError` for a folder that is not there, for files of another form, and where README.md is not such a
    page.
    """
    home = Path(folder)
    if not home.is_dir():
        raise RecipeError(f"there is no folder {home}; `convgate results {home} --add RUN` makes it")
    page = _check_page(home)
    records = [record for path in sorted(home.glob("*.csv")) for record in read_csv(path)]
    records.sort(key=lambda r: (r.data, r.network, r.method, -(r.budget or 1.0), r.run))
    published = read_published(home / _PUBLISHED) if (home / _PUBLISHED).is_file() else []
    parts = [
        _HEAD.format(title=home.name.capitalize(), written=_WRITTEN),
        _below(home),
        _measured(records, published),
        _in_precisions(records),
        _beside(records),
        _figures(records, home),
        _commands(records),
        _papers(records, published),
    ]
    write_text(page, "\n".join(part for part in parts if part))
    return page


def _below(home: Path) -> str:
    names = sorted(page.parent.name for page in home.glob(f"*/{_PAGE}"))
    links = ", ".join(f"[{name}]({name}/{_PAGE})" for name in names)
    return f"Runs that are to be compared among themselves: {links}.\n" if names else ""


def _measured(records: Sequence[Record], published: Sequence[Published]) -> str:
    head = ["run", "network", "method", "teacher", "MACs asked", "MACs", "5 % to 95 %", "accuracy", "dense", "epochs"]
    rows = [
        [
            f"[{r.run}](#{r.run})",
            r.network,
            f"{r.method} (control: {r.control})" if r.control else r.method,
            r.teacher or "none",
            "-" if r.budget is None else f"{r.budget:.0%}",
            f"{r.macs_share:.2%}",
            f"{r.macs_p5:.1%} to {r.macs_p95:.1%}",
            f"**{r.accuracy:.2%}**" + ("" if r.measured == "test" else " (held out)"),
            "-" if r.dense_accuracy is None else f"{r.dense_accuracy:.2%}",
            f"{r.epochs or 'none'} of {r.full_epochs}",
            str(r.seed),
            f"{milliseconds(r.latency_dense_ms)} → {milliseconds(r.latency_gated_ms)}",
            *([_reported(r, published)] if published else []),
        ]
        for r in records
    ]
    head += ["seed", "ms dense → gated", *(["the paper's"] if published else [])]
    return "## Measured\n\n" + (_table(head, rows) if rows else "No run is recorded yet.\n")


def _in_precisions(records: Sequence[Record]) -> str:
    measured = [record for record in records if record.in_precisions]
    if not measured:
        return ""
    names = list(dict.fromkeys(name for record in measured for name in record.in_precisions))
    head = ["run", *(f"{name}: {what}" for name in ("float32", *names) for what in ("accuracy", "MACs", "ms"))]
    rows = []
    for record in measured:
        float32 = {
            "accuracy": record.accuracy,
            "dense_accuracy": record.dense_accuracy,
            "macs_share": record.macs_share,
            "ms": record.latency_gated_ms,
            "dense_ms": record.latency_dense_ms,
        }
        forms = [float32, *(record.in_precisions.get(name, {}) for name in names)]
        rows.append([f"[{record.run}](#{record.run})", *(cell for form in forms for cell in _figures_of(form))])
    return _IN_PRECISIONS + "\n" + _table(head, rows)


def _figures_of(form: Mapping[str, float | None]) -> list[str]:
    """Accuracy, from dense to gated, MACs, time, from dense to gated."""
    shares = (form.get(key) for key in ("dense_accuracy", "accuracy", "macs_share"))
    before, after, macs = ("-" if share is None else f"{share:.2%}" for share in shares)
    return [f"{before} → {after}", macs, f"{milliseconds(form.get('dense_ms'))} → {milliseconds(form.get('ms'))}"]


def _beside(records: Sequence[Record]) -> str:
    compared = groups(record for record in records if record.is_gated or record.control)
    if not compared:
        return ""
    rows = [_compared(group, which) for group in compared for which in group.records]
    head = [
        "row",
        "what",
        "seeds",
        "MACs",
        "accuracy, %",
        "gain",
        "fixed: accuracy, %",
        "fixed: MACs, %",
        "changing, %",
    ]
    left = [
        f"- {recipe}, {length} epochs: {', '.join(missing)}"
        for recipe, length, missing in dict.fromkeys((g.recipe, g.length, g.missing) for g in compared)
        if missing
    ]
    controls = "\n".join(f"- {name}: {words[0].lower()}{words[1:]}" for name, words in list_controls().items())
    images = max(record.test_images for record in records)
    accuracy = fmean(record.accuracy for record in records)
    sampling = f"{100 * math.sqrt(2 * accuracy * (1 - accuracy) / images):.1f}"
    text = _BESIDE.format(controls=controls, sampling=sampling) + "\n" + _table(head, rows)
    return text + (
        "\nControls that the recipes name and that were not run:\n\n" + "\n".join(left) + "\n" if left else ""
    )


def _compared(group: Group, which: str) -> list[str]:
    images = "" if group.measured == "test" else ", held-out images"
    budget = "" if group.budget is None else f" at {group.budget:.0%}"
    options = "".join(f", {name}={value}" for name, value in group.options.items())
    macs, gain = group.macs(which), None if which == GATED else group.gain(which)
    fixed = (group.static(which), group.static_macs(which), group.changing(which))
    return [
        f"{group.recipe}{options}{budget}, {group.length} epochs{images}" if which == GATED else "",
        which or "**gated**",
        ", ".join(str(record.seed) for record in group.records[which]),
        "-" if macs is None else f"{macs:.1%}",
        str(group.accuracy(which)),
        "-" if gain is None else str(gain),
        *("-" if value is None else str(value) for value in fixed),
    ]


def _reported(record: Record, published: Sequence[Published]) -> str:
    found = (p for p in published if record.recipe in p.recipes)
    return "; ".join(f"{p.what}: {p.result} ({p.paper}, {p.source})" for p in found) or "none known"


def _figures(records: Sequence[Record], home: Path) -> str:
    """One figure for each network that has several runs: accuracy against MACs, or latency if all had one budget."""
    parts = []
    for data, network in sorted({(r.data, r.network) for r in records}):
        runs = [r for r in records if (r.data, r.network) == (data, network)]
        drawing = against(runs, "MACs" if len({r.budget for r in runs}) > 1 else "latency")
        if drawing is not None:
            name = f"{data}-{network}.svg"
            write_text(home / name, drawing.svg)
            parts.append(f"### {network} on {data}\n\n![{drawing.alt}]({name})\n")
    return "\n".join(parts)


def _training(record: Record) -> tuple[Any, ...]:
    """What tells one training from others: runs that start side by side may differ in their settings alone."""
    settings = {name: value for name, value in json.loads(record.settings or "{}").items() if name != "budget"}
    return record.started, record.recipe, record.seed, settings


def _commands(records: Sequence[Record]) -> str:
    if not records:
        return ""
    parts = ["## Where each row comes from\n"]
    parts.append(
        "`$DATA` is where the images are, `$WEIGHTS` the folder of the weights that the network starts from. The\n"
        "commands are for the recipes as they are now: what the run set otherwise is on the command line. Minutes are\n"
        "those of all stages; of a stage that was interrupted, of its last part.\n"
    )
    for r in records:
        changed = ", with changes" if (r.commit or "").endswith("+") else ""
        limit = f", cut to {r.minutes:g} minutes of training" if r.minutes else ""
        twins = [o.run for o in records if o is not r and r.started and _training(o) == _training(r)]
        same = f"One training with {', '.join(twins)}, calibrated to another budget. " if twins else ""
        parts.append(
            f"### {r.run}\n\n```\n{r.again or '(not noted)'}\n```\n\n{same}"
            f"Commit {(r.commit or 'not noted').rstrip('+')}{changed}; started {r.started or '?'} UTC{limit}; "
            f"{r.seconds / 60:.0f} minutes; {r.machine}; "
            f"torch {r.torch}; {r.test_images:,} {'test' if r.measured == 'test' else 'held-out'} images."
            f"{' ' if r.note else ''}{r.note}\n"
        )
    return "\n".join(parts)


def _papers(records: Sequence[Record], published: Sequence[Published]) -> str:
    if not published:
        return ""
    said = f"The papers' numbers are in `{_PUBLISHED}`, each with its source.\n\n"
    run = {r.recipe for r in records}
    rows = [
        [
            p.paper,
            p.source,
            p.data,
            p.network,
            p.what,
            p.result,
            "; ".join(_ran(name, name in run) for name in p.recipes),
        ]
        for p in published
    ]
    head = ["paper", "source", "data", "network", "row", "reported", "recipe, and whether it was run here"]
    return "## The papers' rows\n\n" + said + _table(head, rows)


def _ran(recipe: str, is_run: bool) -> str:
    return f"{recipe} ({'run' if is_run else 'not run'})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
