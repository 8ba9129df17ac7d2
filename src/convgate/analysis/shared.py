"""What the pages of all tasks say of a run: scores, MACs, training, sites."""

from collections.abc import Mapping, Sequence
from typing import Any

from convgate.analysis import figures
from convgate.analysis.evaluation import Evaluation
from convgate.analysis.judging import Judged
from convgate.analysis.metrics import Metrics
from convgate.analysis.pictures import colour_bar
from convgate.analysis.sites import site_costs
from convgate.analysis.spending import Spending
from convgate.analysis.stages import StageCurves
from convgate.gated import GatedModel, GatedNetwork

__all__ = ["said_of_any"]


def said_of_any(
    title: str,
    metrics: Metrics,
    stages: Sequence[StageCurves],
    network: GatedNetwork | GatedModel,
    dense: Evaluation | Judged,
    gated: Evaluation | Judged,
    spending: Spending,
    notes: Mapping[str, str],
) -> dict[str, Any]:
    """What a template of a page is given, beside its own; `spending` is the gated network's."""
    costs = site_costs(network.plan, spending)
    target = _target(metrics, stages)
    return {
        "title": title,
        "metric": gated.metric,
        "n": len(spending.macs),
        "dense_accuracy": dense.accuracy,
        "gated_accuracy": gated.accuracy,
        "macs_ratio": spending.ratio,
        "latency": metrics.latency,
        "target": target,
        "least": float(spending.shares.min()),
        "most": float(spending.shares.max()),
        "dense_macs": spending.dense,
        "stages": [(s.name, panels) for s in stages if (panels := figures.training_curves(s, gated.metric))],
        "site_bars": figures.site_bars(costs),
        "histogram": figures.cost_histogram(spending, target),
        "plan": network.plan,
        "sites": list(zip(network.plan.sites, costs, strict=False)),
        "notes": notes,
        "colour_bar": colour_bar(),
    }


def _target(metrics: Metrics, stages: Sequence[StageCurves]) -> float | None:
    """What was calibrated to, else the target of the last stage that had one."""
    targets = [stage.target for stage in stages if stage.target is not None]
    return metrics.budget if metrics.budget is not None or not targets else targets[-1]
