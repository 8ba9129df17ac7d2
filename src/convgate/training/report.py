"""The page of pictures for a finished run."""

import csv
from collections.abc import Mapping
from pathlib import Path

from convgate.analysis import StageCurves, write_report
from convgate.training.run import Run

__all__ = ["write_run_report"]


def write_run_report(run: Run, path: str | Path) -> None:
    """Write the HTML page that shows what `run` did and what its gates learned, see `analysis.write_report`."""
    curves = [
        StageCurves(name, _rows(run.folder.path / name / "epochs.csv"), target)
        for name, target in (("dense", None), ("gated", run.recipe.budget))
        if (run.folder.path / name / "epochs.csv").is_file()
    ]
    write_report(
        path,
        title=run.recipe.title,
        summary=run.metrics,
        stages=curves,
        network=run.network,
        dense=run.dense,
        gated=run.gated,
        images=run.splits.test,
        notes=_notes(run),
    )


def _rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def _notes(run: Run) -> Mapping[str, str]:
    recipe, metrics = run.recipe, run.metrics
    options = ", ".join(f"{name}={value}" for name, value in recipe.method.options.items())
    return {
        "Model": f"{recipe.model.name}, {metrics['dense']['macs']:,} MACs per image",
        "Method": f"{recipe.method.name}({options})",
        "Dense training": f"{recipe.dense.epochs} epochs on {len(run.splits.train):,} images",
        "Gated training": f"{recipe.gated.epochs} more epochs, from the dense weights",
        "Calibration": f"to {recipe.budget:.0%} on training images" if recipe.budget else "none",
        "Test images": f"{len(run.splits.test):,}, used for nothing but this evaluation",
        "Seed": str(recipe.seed),
        "Machine": metrics["machine"],
        "Versions": ", ".join(f"{name} {version}" for name, version in metrics["versions"].items()),
        "Wall time": ", ".join(f"{step} {seconds:.0f} s" for step, seconds in metrics["seconds"].items()),
    }
