"""The page of pictures for a finished run."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convgate.analysis import StageCurves, write_report
from convgate.recipes.recipe import Recipe
from convgate.runs.run import Run

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


def _latency(latency: Mapping[str, Any] | None) -> str:
    if latency is None:
        return "not measured: the engine has no native form for an operation of this model"
    dense, gated = latency["dense"], latency["gated"]
    return (
        f"{gated['median_ms']:.3f} ms gated (20 % to 80 %: {gated['p20_ms']:.3f} to {gated['p80_ms']:.3f}), "
        f"{dense['median_ms']:.3f} ms dense ({dense['p20_ms']:.3f} to {dense['p80_ms']:.3f}), one image at a time, on "
        f"{latency['threads']} thread(s) of convgate's engine ({latency['isa']}): "
        f"{latency['speedup']:.2f} times as fast"
    )


def _distillation(recipe: Recipe) -> str:
    chosen = recipe.distillation
    if not chosen.weight:
        return "none"
    teacher = chosen.teacher.name if chosen.teacher else "the dense network"
    return f"from {teacher}, weight {chosen.weight:g}, temperature {chosen.temperature:g}"


def _notes(run: Run) -> Mapping[str, str]:
    recipe, metrics = run.recipe, run.metrics
    options = ", ".join(f"{name}={value}" for name, value in recipe.method.options.items())
    return {
        "Model": f"{recipe.model.name}, {metrics['dense']['macs']:,} MACs per image",
        "Method": f"{recipe.method.name}({options})",
        "Dense training": f"{recipe.dense.epochs} epochs on {len(run.splits.train):,} images",
        "Gated training": f"{recipe.gated.epochs} more epochs, from the dense weights",
        "Distillation": _distillation(recipe),
        "Calibration": f"to {recipe.budget:.0%} on training images" if recipe.budget else "none",
        "Test images": f"{len(run.splits.test):,}, used for nothing but this evaluation",
        "Latency": _latency(metrics.get("latency")),
        "Seed": str(recipe.seed),
        "Machine": metrics["machine"],
        "Versions": ", ".join(f"{name} {version}" for name, version in metrics["versions"].items()),
        "Wall time": ", ".join(f"{step} {seconds:.0f} s" for step, seconds in metrics["seconds"].items()),
    }
