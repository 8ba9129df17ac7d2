"""Read a CNN: its graphs, the shapes in them, and what of it could be gated."""

from convgate.reading.faithful import check_faithful
from convgate.reading.joins import Join, concatenations, dense_layers, residual_units
from convgate.reading.reach import reaches
from convgate.reading.structure import Branch, Feature, Rejected, branches, features
from convgate.reading.trace import Trace, trace

__all__ = [
    "Branch",
    "Feature",
    "Join",
    "Rejected",
    "Trace",
    "branches",
    "check_faithful",
    "concatenations",
    "dense_layers",
    "features",
    "reaches",
    "residual_units",
    "trace",
]
