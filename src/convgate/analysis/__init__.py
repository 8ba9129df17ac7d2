"""What gates learned: evaluation, statistics, cost maps, and the HTML report."""

from convgate.analysis.evaluation import Evaluation, Spending, evaluate

__all__ = ["Evaluation", "Spending", "evaluate"]
