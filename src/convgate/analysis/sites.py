"""What the sites of a plan cost, dense and gated."""

from collections.abc import Mapping
from dataclasses import dataclass

from convgate.analysis.spending import Spending
from convgate.gated import Plan

__all__ = ["SiteCost", "site_costs"]


@dataclass(frozen=True)
class SiteCost:
    """Mean MACs per image of one site: of the ungated network (`dense`) and of the gated one (`gated`)."""

    name: str
    dense: int
    gated: float


def site_costs(plan: Plan, spending: Spending) -> list[SiteCost]:
    """The sites in the plan's order, then everything outside of them, then the gates: together all that is counted."""
    dense: Mapping[str, float] = spending.dense_by_layer or {layer.name: layer.macs for layer in plan.ledger.layers}
    costs, inside = [], set()
    for site in plan.sites:
        layers = [plan.layer_names[node] for node in site.convs]
        inside.update(layers)
        costs.append(_total(site.name, dense, spending, layers))
    costs.append(_total("all other layers", dense, spending, [name for name in dense if name not in inside]))
    heads = sum(spent for name, spent in spending.by_layer.items() if name not in dense)
    return [*costs, SiteCost("gates", 0, heads)]


def _total(name: str, dense: Mapping[str, float], spending: Spending, layers: list[str]) -> SiteCost:
    return SiteCost(name, round(sum(dense[n] for n in layers)), sum(spending.by_layer[n] for n in layers))
