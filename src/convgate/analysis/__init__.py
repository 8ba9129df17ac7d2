"""What gates learned: evaluation, statistics, cost maps, and the HTML report."""

from convgate.analysis.census import Census, GateCensus, census
from convgate.analysis.cost_maps import cost_maps
from convgate.analysis.evaluation import Evaluation, evaluate
from convgate.analysis.judging import Judged, judge
from convgate.analysis.metrics import DenseFigures, GatedFigures, Metrics, PrecisionFigures
from convgate.analysis.report import write_report
from convgate.analysis.sites import SiteCost, site_costs
from convgate.analysis.spending import Spending
from convgate.analysis.stages import StageCurves
from convgate.analysis.static import StaticFigures, compare_with_static, majority_masks

__all__ = [
    "Census",
    "DenseFigures",
    "Evaluation",
    "GateCensus",
    "GatedFigures",
    "Judged",
    "Metrics",
    "PrecisionFigures",
    "SiteCost",
    "Spending",
    "StageCurves",
    "StaticFigures",
    "census",
    "compare_with_static",
    "cost_maps",
    "evaluate",
    "judge",
    "majority_masks",
    "site_costs",
    "write_report",
]
