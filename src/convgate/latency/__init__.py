"""How long an engine takes for what its gates decide: a model of each operation's time, fitted on this machine."""

from convgate.latency.file import load, save
from convgate.latency.fit import fit_latency
from convgate.latency.model import LatencyModel
from convgate.latency.origin import Origin
from convgate.latency.watch import CLOCKS, Watched, watch

__all__ = ["CLOCKS", "LatencyModel", "Origin", "Watched", "fit_latency", "load", "save", "watch"]
