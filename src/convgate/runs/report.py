"""The page of pictures of a finished run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convgate.analysis import Evaluation, Judged, Metrics, StageCurves, write_report
from convgate.analysis.scenes import write_scene_report
from convgate.bench.latency import Latency
from convgate.data import Splits
from convgate.errors import CheckpointError
from convgate.gated import GatedModel, GatedNetwork
from convgate.recipes.recipe import Distillation, Recipe
from convgate.recipes.stages import Gates, Stage
from convgate.runs.measure import on_images
from convgate.runs.run import Run
from convgate.training.device import device_of
from convgate.training.parts import build_task
from convgate.undisturbed import undisturbed

__all__ = ["Evaluations", "report", "write_report_of"]

_LOG = logging.getLogger(__name__)

Evaluations = tuple[Evaluation | Judged, Evaluation | Judged]
"""Of the dense network and of the gated one, on the test images."""


def report(run: Run, path: str | Path | None = None) -> Path:
    """Write the HTML page that shows what a finished run did and what its gates learned; returns where.

    The networks are evaluated again for it, so the images must be there.

    Args:
        run: a finished run.
        path: where to write; None for report.html in the run's folder.

    Raises:
        RecipeError: the run is not finished.
        CheckpointError: a network of the run is missing.
        DataError: the images are not at the place that the recipe names.

    """
    assert run.finished
    task = build_task(run.recipe)
    device, workers = device_of(run.recipe.hardware), run.recipe.hardware.workers
    network, dense, splits = run.network().to(device), run.dense_network(), run.splits()
    if dense is None:
        raise CheckpointError(f"{run.folder.path} lacks the dense network's weights; let `convgate train` finish it")
    images = splits.validation if run.recipe.measured == "validation" else splits.test
    _LOG.info("evaluating both networks on %s images", f"{len(images):,}")
    with undisturbed(run.recipe.hardware.threads):
        evaluations = (
            on_images(dense.to(device), images, task, workers=workers),
            on_images(network, images, task, workers=workers),
        )
        return write_report_of(run, network, evaluations, splits, path)


def write_report_of(
    run: Run,
    network: GatedNetwork | GatedModel,
    evaluations: Evaluations,
    splits: Splits,
    path: str | Path | None = None,
) -> Path:
    """Write the page of a run whose networks were evaluated just now."""
    target = Path(path) if path is not None else run.folder.report
    dense, gated = evaluations
    held_out = run.recipe.measured == "validation"
    shared: dict[str, Any] = {
        "title": run.recipe.title,
        "metrics": run.finished,
        "stages": _curves(run),
        "images": splits.validation if held_out else splits.test,
        "notes": _notes(run, splits),
    }
    if isinstance(dense, Judged) and isinstance(gated, Judged):
        task, which = build_task(run.recipe), "held-out" if held_out else "test"
        write_scene_report(target, network=network, dense=dense, gated=gated, task=task, which=which, **shared)
    else:
        assert isinstance(network, GatedNetwork)
        assert isinstance(dense, Evaluation)
        assert isinstance(gated, Evaluation)
        write_report(target, network=network, dense=dense, gated=gated, **shared)
    return target


def _curves(run: Run) -> list[StageCurves]:
    trained = [(stage, rows) for stage in run.recipe.stages if (rows := run.epochs(stage))]
    return [
        StageCurves(stage.name, rows, None if stage.gates is Gates.NONE else run.recipe.budget)
        for stage, rows in trained
    ]


def _notes(run: Run, splits: Splits) -> Mapping[str, str]:
    recipe, metrics = run.recipe, run.finished
    options = ", ".join(f"{name}={value}" for name, value in recipe.method.options.items())
    return {
        "Model": f"{recipe.model.name}, {metrics.dense.macs:,} MACs per image",
        "Weights": recipe.model.weights or "trained from scratch",
        "Method": f"{recipe.method.name}({options})",
        **{f"{stage.name.capitalize()} training": _trained(stage, splits) for stage in recipe.stages},
        "Distillation": _distillation(recipe.distillation),
        "Calibration": _calibrated(recipe),
        "Test images" if recipe.measured == "test" else "Held-out images": f"{metrics.test_images:,}",
        "Units fixed at their majority": _static(metrics),
        "Latency": _latency(metrics.latency),
        "Seed": str(recipe.seed),
        "Machine": metrics.machine,
        "Versions": ", ".join(f"{name} {version}" for name, version in metrics.versions.items()),
        "Wall time": ", ".join(f"{step} {seconds:.0f} s" for step, seconds in metrics.seconds.items()),
    }


def _trained(stage: Stage, splits: Splits) -> str:
    if not stage.epochs:
        return "none"
    return f"{stage.epochs} epochs on {len(splits.train):,} images; gates: {stage.gates.value}"


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return "not measured"
    dense, gated = latency.dense, latency.gated
    return (
        f"{gated.median_ms:.3f} ms gated (20 % to 80 %: {gated.p20_ms:.3f} to {gated.p80_ms:.3f}), "
        f"{dense.median_ms:.3f} ms dense ({dense.p20_ms:.3f} to {dense.p80_ms:.3f}), one image at a time, on "
        f"{latency.threads} thread(s) of convgate's engine ({latency.isa}): {latency.speedup:.2f} times as fast"
    )


def _calibrated(recipe: Recipe) -> str:
    if recipe.milliseconds is not None:
        return f"to {recipe.milliseconds:g} ms on the engine, on training images"
    return f"to {recipe.budget:.0%} on training images" if recipe.budget else "none"


def _static(metrics: Metrics) -> str:
    if (static := metrics.static) is None:
        return "not measured"
    return (
        f"{static.accuracy:.2%} at {static.macs_ratio:.1%} of the dense MACs; {static.changing:.1%} of the units "
        "change from image to image"
    )


def _distillation(chosen: Distillation) -> str:
    if not chosen.weight:
        return "none"
    teacher = chosen.teacher.name if chosen.teacher else "the dense network"
    rest = f", cross-entropy {1 - chosen.weight:g}" if chosen.convex else ""
    return f"from {teacher}, weight {chosen.weight:g}{rest}, temperature {chosen.temperature:g}"
