"""The page of results: what was measured here, each beside the paper's number and the command that reproduces it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convgate.errors import RecipeError
from convgate.files import write_text
from convgate.runs.compare import milliseconds
from convgate.runs.figure import against
from convgate.runs.record import Record, read_csv, record_of, to_csv

__all__ = ["Published", "add", "read_published", "write_page"]

_PUBLISHED, _PAGE = "published.yaml", "README.md"

_HEAD = """\
# {title}

Written by `convgate results FOLDER` from the CSV files in this folder, one for each run; nothing is entered by hand.
Accuracy is that of the last epoch on all test images, which were used for nothing else. MACs are the ledger's, gates
included, as a share of the dense network's. Milliseconds are medians for one image at a time in float32 on convgate's
engine; a dash: the engine has no form for the method, or it was not timed. "Teacher" is whose predictions were
distilled: the ungated network's own, or a larger one's. "Epochs" says what was run, of what the recipe runs in full.
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


def add(runs: Sequence[str | Path], folder: str | Path) -> list[Path]:
    """Write the record of each finished run into `folder`, as a CSV file of the run's name."""
    written = []
    for run in runs:
        record = record_of(run)
        written.append(Path(folder) / f"{record.run}.csv")
        write_text(written[-1], to_csv([record]))
    return written


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

    Raises `RecipeError` for a folder that is not there, and for files of another form.
    """
    home = Path(folder)
    if not home.is_dir():
        raise RecipeError(f"there is no folder {home}; `convgate results {home} --add RUN` makes it")
    records = [record for path in sorted(home.glob("*.csv")) for record in read_csv(path)]
    records.sort(key=lambda r: (r.data, r.network, r.method, -(r.budget or 1.0), r.run))
    published = read_published(home / _PUBLISHED) if (home / _PUBLISHED).is_file() else []
    parts = [
        _HEAD.format(title=home.name.capitalize()),
        _below(home),
        _measured(records, published),
        _figures(records, home),
        _commands(records),
        _papers(records, published),
    ]
    write_text(home / _PAGE, "\n".join(part for part in parts if part))
    return home / _PAGE


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
            r.method,
            r.teacher or "none",
            "-" if r.budget is None else f"{r.budget:.0%}",
            f"{r.macs_share:.2%}",
            f"{r.macs_p5:.1%} to {r.macs_p95:.1%}",
            f"**{r.accuracy:.2%}**",
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


def _commands(records: Sequence[Record]) -> str:
    if not records:
        return ""
    parts = ["## Where each row comes from\n"]
    parts.append(
        "`$DATA` is where the images are, `$WEIGHTS` the folder of the weights that the network starts from. The\n"
        "commands are for the recipes as they are now: what the run set otherwise is on the command line.\n"
    )
    for r in records:
        changed = ", with changes" if (r.commit or "").endswith("+") else ""
        limit = f", cut to {r.minutes:g} minutes of training" if r.minutes else ""
        parts.append(
            f"### {r.run}\n\n```\n{r.again or '(not noted)'}\n```\n\n"
            f"Commit {(r.commit or 'not noted').rstrip('+')}{changed}; started {r.started or '?'} UTC{limit}; "
            f"{r.seconds / 60:.0f} minutes (of a stage that was interrupted: its last part); {r.machine}; "
            f"torch {r.torch}; {r.test_images:,} test images.\n"
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
