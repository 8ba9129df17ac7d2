"""Timing a gated network against the dense one in other engines: one process, the same inputs, interleaved."""

from convgate.bench.competitors import COMPETITORS
from convgate.bench.result import Result, Row
from convgate.bench.run import bench

__all__ = ["COMPETITORS", "Result", "Row", "bench"]
