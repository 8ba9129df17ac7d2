r"""Train the rows of a list, each with its controls and seeds, side by side in the background; note them in results/.

    nohup python benchmarks/science.py benchmarks/rows/table.yaml --runs runs/table --data cifar10.npz \
        --weights weights --results results --side-by-side 2 > table.log 2>&1 &
    python benchmarks/science.py benchmarks/rows/table.yaml --runs runs/table --status

Every run is `convgate train` in a process of its own with one thread, niced, with its log beside its folder. Killed
with all that it started, it goes on where it was by the same command: finished runs are not repeated, begun ones are
continued to the same weights. A run that fails is told of at the end, and the others go on. The list is a YAML file of
rows:

    name: what its runs are called, with the control and the seed behind it
    recipe: whose row it is
    epochs: of gated training; the other stages in proportion (the recipe's, if left out)
    seeds: a list
    controls: which controls are run with it (those that the recipe names, if left out)
    once: controls that are run with the first seed alone, for they train a network from scratch
    weights: of the network, a file in the folder of weights; {run: NAME}: the dense network of that run of the list
    set: fields of the recipe, nested with dots; "$WEIGHTS/.." is a file in the folder of weights, "$RUNS/NAME/.." one
        of that run of the list, which is waited for
    into: a folder within results, for rows that are to be compared among themselves alone

On an NVIDIA GPU, `--set hardware.graphs=true --side-by-side 14` shares it among fourteen runs, each of which launches a
whole step at once; under MPS (`nvidia-cuda-mps-control -d`) their steps run at the same time instead of in turns.
`hardware.compile=true` on top makes them 1.7 times as fast, once they are compiled (ResNet-20: 80 s, and 20 s for runs
that find it in the compiler's cache, so start one of each kind first; ResNet-56: minutes).
"""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from convgate.errors import RecipeError
from convgate.recipes.read import load_recipe


@dataclass(frozen=True)
class Job:
    """One run: its folder's name, and the command's arguments."""

    name: str
    arguments: tuple[str, ...]
    waits_for: tuple[Path, ...] = ()
    into: str = ""


@dataclass
class Places:
    """Where things are."""

    runs: Path
    data: Path | None = None
    weights: Path | None = None
    always: Sequence[str] = field(default_factory=tuple)


ALLOWED = {"name", "recipe", "epochs", "seeds", "controls", "once", "weights", "set", "into"}


def jobs(rows: Sequence[Mapping[str, Any]], places: Places) -> Iterator[Job]:
    """The runs of a list in the order in which they are worth having: all rows with their first seed, then the next."""
    for row in rows:
        if unknown := row.keys() - ALLOWED:
            raise RecipeError(
                f"the row {row.get('name')} sets {', '.join(sorted(unknown))}; rows set {sorted(ALLOWED)}"
            )
    for place in range(max((len(row["seeds"]) for row in rows), default=0)):
        for row in rows:
            if place < len(row["seeds"]):
                once = row.get("once", [])
                named = row.get("controls", load_recipe(row["recipe"]).controls)
                controls = [control for control in named if control not in once] + (once if place == 0 else [])
                yield from (_job(row, control, row["seeds"][place], places) for control in ("", *controls))


def chosen(rows: Sequence[Mapping[str, Any]], places: Places, names: Sequence[str]) -> list[Job]:
    """The runs of the rows of these names, and the single runs of these names."""
    whole = [row for row in rows if row["name"] in names]
    wanted = {*names, *(job.name for job in jobs(whole, places))}
    return [job for job in jobs(rows, places) if job.name in wanted]


def _job(row: Mapping[str, Any], control: str, seed: int, places: Places) -> Job:
    name = "-".join(part for part in (row["name"], control, str(seed)) if part)
    recipe = row["recipe"] + (f"@{control}" if control else "")
    arguments = [recipe, "--out", str(places.runs / name), "--seed", str(seed), "--hardware.threads", "1"]
    arguments += ["--data", str(places.data)] if places.data else []
    arguments += ["--epochs", str(row["epochs"])] if "epochs" in row else []
    weights, waits_for = row.get("weights"), []
    if isinstance(weights, Mapping):
        waits_for.append(places.runs / weights["run"] / "dense.safetensors")
        arguments += ["--weights", str(waits_for[0])]
    elif weights:
        arguments += ["--weights", str((places.weights or Path()) / weights)]
    for option, value in row.get("set", {}).items():
        if isinstance(value, str):
            text = value.replace("$WEIGHTS", str(places.weights)).replace("$RUNS", str(places.runs))
            waits_for += [Path(text)] if value.startswith("$RUNS") else []
        else:
            text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
        arguments.append(f"--{option}={text}")
    arguments += [f"--{option}" for option in places.always]
    return Job(name, tuple(arguments), tuple(waits_for), row.get("into", ""))


def is_done(job: Job, places: Places) -> bool:
    """Whether the run is finished."""
    return (places.runs / job.name / "metrics.json").is_file()


def missing(job: Job) -> list[Path]:
    """What the run waits for and is not there yet."""
    return [path for path in job.waits_for if not path.is_file()]


def carry_out(todo: Sequence[Job], places: Places, results: Path | None, side_by_side: int) -> list[str]:
    """Run the jobs that are not done; returns the names of those that failed."""
    waiting = [job for job in todo if not is_done(job, places)]
    running: dict[Job, subprocess.Popen[bytes]] = {}
    failed: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        while waiting or running:
            ready = [job for job in waiting if not missing(job)]
            while ready and len(running) < side_by_side:
                job = ready.pop(0)
                waiting.remove(job)
                running[job] = _start(job, places)
            if not running:
                failed += [f"{job.name} (waits for {', '.join(map(str, missing(job)))})" for job in waiting]
                break
            time.sleep(0.2)
            for job in [job for job, process in running.items() if process.poll() is not None]:
                if running.pop(job).returncode or not is_done(job, places):
                    failed.append(job.name)
                elif results is not None:
                    note([job], places, results)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return failed


def _start(job: Job, places: Places) -> "subprocess.Popen[bytes]":
    print(f"{time.strftime('%H:%M:%S')} {job.name}", flush=True)
    places.runs.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (places.runs / f"{job.name}.log").open("ab") as log:
        return subprocess.Popen(command(job), stdout=log, stderr=subprocess.STDOUT, env=environment)


def command(job: Job) -> list[str]:
    """What is run for a job, at a niceness of 10 (this process may have some already)."""
    more = max(0, 10 - os.nice(0))
    return ["nice", "-n", str(more), sys.executable, "-m", "convgate.cli", "train", *job.arguments]


def note(done: Sequence[Job], places: Places, results: Path) -> None:
    """Put the records of finished runs into results/, and write its pages again."""
    from convgate.runs.page import add, write_page

    for job in done:
        add([places.runs / job.name], results / job.into)
        write_page(results / job.into)
    write_page(results)


def status(todo: Sequence[Job], places: Places) -> str:
    """How far each run is: done, the epochs of its last stage, or waiting."""
    lines = []
    for job in todo:
        folder = places.runs / job.name
        tables = sorted(folder.glob("*/epochs.csv"), key=lambda path: path.stat().st_mtime)
        if is_done(job, places):
            how = "done"
        elif tables:
            how = f"{tables[-1].parent.name}, {len(tables[-1].read_text().splitlines()) - 1} epochs done"
        else:
            how = "begun" if folder.is_dir() else "-"
        lines.append(f"{job.name:40} {how}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the list, run it, note it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, help="a YAML file of rows")
    parser.add_argument("--runs", type=Path, required=True, help="where the runs' folders are")
    parser.add_argument("--data", type=Path, help="where the images are")
    parser.add_argument("--weights", type=Path, help="the folder of weights")
    parser.add_argument("--results", type=Path, help="the folder of results to note finished runs in (default: none)")
    parser.add_argument("--side-by-side", type=int, default=1, metavar="N", help="runs at a time")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="rows, or single runs, to run (default: all)"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="FIELD=VALUE", help="fields of all runs, e.g. hardware's"
    )
    parser.add_argument("--status", action="store_true", help="print how far the runs are, and run none")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and run none")
    given = parser.parse_args(argv)
    rows = yaml.safe_load(given.list.read_text())
    places = Places(given.runs, given.data, given.weights, given.set)
    todo = chosen(rows, places, given.only) if given.only else list(jobs(rows, places))
    if given.status:
        print(status(todo, places))
        return 0
    if given.dry_run:
        print("\n".join(f"convgate train {' '.join(job.arguments)}" for job in todo))
        return 0
    given.runs.mkdir(parents=True, exist_ok=True)
    with (given.runs / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"{given.runs} is being worked on already", file=sys.stderr)
            return 2
        if given.results is not None:
            given.results.mkdir(parents=True, exist_ok=True)
            note([job for job in todo if is_done(job, places)], places, given.results)
        failed = carry_out(todo, places, given.results, given.side_by_side)
    for name in failed:
        print(f"failed: {name}; its log is beside its folder", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
