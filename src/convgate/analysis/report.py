"""The report: one self-contained HTML page of what a gated network learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from convgate.analysis import figures
from convgate.analysis.evaluation import Evaluation
from convgate.analysis.gallery import gallery
from convgate.analysis.metrics import Metrics
from convgate.analysis.shared import said_of_any
from convgate.analysis.spending import Spending
from convgate.analysis.stages import StageCurves
from convgate.data import ImageSet
from convgate.errors import InputError
from convgate.files import write_text
from convgate.gated import GatedNetwork
from convgate.gating import KINDS
from convgate.pages import page_template

__all__ = ["write_report"]

MAPPED = 12
EXTREMES = 8


def write_report(
    path: str | Path,
    *,
    title: str,
    metrics: Metrics,
    stages: Sequence[StageCurves],
    network: GatedNetwork,
    dense: Evaluation,
    gated: Evaluation,
    images: ImageSet,
    notes: Mapping[str, str],
) -> None:
    """Write the page to `path`: complete, or not at all.

    Args:
        path: of the HTML file.
        title: heading of the page.
        metrics: the run's figures.
        stages: training curves, in the order of training.
        network: the gated network; it is run on the few images that are shown with cost maps.
        dense: evaluation of the ungated network on `images`.
        gated: evaluation of `network` on `images`.
        images: the test set, in the order of the evaluations.
        notes: facts for the table at the end (machine, versions, seed, ..), in that order.

    Raises:
        InputError: the parts do not belong together.

    """
    spending = _check(metrics, network, dense, gated, images)
    context = said_of_any(title, metrics, stages, network, dense, gated, spending, notes) | {
        "census": [(k.word, d) for k in KINDS if (d := figures.gate_census(spending.census, k))],
        "difficulty": [] if images.difficulty is None else figures.by_difficulty(images.difficulty.cpu(), dense, gated),
        "gallery": gallery(network, gated, spending, images, mapped=MAPPED, extremes=EXTREMES),
    }
    write_text(path, page_template(Path(__file__).parent / "templates" / "report.html.j2").render(context))


def _check(metrics: Metrics, network: GatedNetwork, dense: Evaluation, gated: Evaluation, images: ImageSet) -> Spending:
    spending = gated.spending
    if spending is None:
        raise InputError("write_report(gated=..) has no spending; give what evaluate() returned for a GatedNetwork")
    for name, evaluation in (("dense", dense), ("gated", gated)):
        if not torch.equal(evaluation.labels, images.labels.cpu()):
            raise InputError(
                f"write_report({name}=..) is of {len(evaluation.labels)} images and `images` holds {len(images)}, or "
                "their labels differ; give the image set that was evaluated, in the same order"
            )
    if set(spending.census) != {gate.name for gate in network.plan.gates} or spending.dense != network.ledger.dense:
        raise InputError("write_report(gated=..) is of another network; evaluate the network that is given")
    facts = {
        "dense accuracy": (metrics.dense.accuracy, dense.accuracy),
        "gated accuracy": (metrics.gated.accuracy, gated.accuracy),
        "share of the dense MACs": (metrics.gated.macs_ratio, spending.ratio),
    }
    for what, (stated, measured) in facts.items():
        # Room for metrics that were rounded, or measured on another machine; more means that they are of another run.
        if stated is not None and not abs(stated - measured) <= 5e-3:
            raise InputError(
                f"the metrics state a {what} of {stated}, and the evaluation found {measured:.4f}: they are not of the "
                "same network and images. `convgate evaluate RUN --save` measures a run again"
            )
    return spending
