"""What a run was, as one object, and what is done with runs: train, evaluate, report, compare, sweep.

>>> from convgate.recipes.request import Request
>>> from convgate.runs import Run, report, train
>>> run = train(Request("digits-demo", epochs=2), "runs/short")  # doctest: +SKIP
>>> Run.load("runs/short").finished.gated.macs_ratio             # doctest: +SKIP
0.5003
>>> report(run)                                                  # doctest: +SKIP
PosixPath('runs/short/report.html')
"""

from convgate.runs.compare import compare, comparison
from convgate.runs.evaluate import evaluate_file, evaluate_run
from convgate.runs.folder import RunFolder
from convgate.runs.launch import train
from convgate.runs.record import Record, record_of
from convgate.runs.report import report
from convgate.runs.run import Run
from convgate.runs.sweep import sweep

__all__ = [
    "Record",
    "Run",
    "RunFolder",
    "compare",
    "comparison",
    "evaluate_file",
    "evaluate_run",
    "record_of",
    "report",
    "sweep",
    "train",
]
