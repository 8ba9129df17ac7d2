"""A latency model that no clock has a part in, for tests of what is built on one."""

from types import SimpleNamespace

import numpy as np

from convgate.latency import LatencyModel, Origin
from convgate.latency.model import Term
from convgate.latency.shares import Channels, Positions


def made_up_model(engine, **_):
    """1 ms, and for each gate 0.1 ms when it is closed and 1.1 ms when it is open."""
    terms = [Term("fixed", "", (), (1.0,))]
    for number, gate in enumerate(engine.program.gates):
        units = gate.shape[0]
        share = Positions(gate.name, 4, 4) if units == 1 else Channels(gate.name, units * gate.group, gate.group)
        terms.append(Term(f"op{number}", "", (share,), (0.1, 1.0)))
    return LatencyModel(Origin.of(engine, "wall"), tuple(terms), 0.0, 0.0)


def watching(model, *factors, by_itself=0.0):
    """A function like `watch`, of an engine that takes what the model says times the next factor, the last for ever.

    When it decides by itself it takes `by_itself` milliseconds more than 1 ms, which it takes in the comparison.
    """
    left = list(factors)
    comparing = [False]

    def watch(engine, images, masks=None, *, clock):
        if masks is None:
            comparing[0] = True  # with the next call, which hands it the same decisions
            return SimpleNamespace(mean=1.0 + by_itself)
        if comparing[0]:
            comparing[0] = False
            return SimpleNamespace(mean=1.0)
        factor = left.pop(0) if len(left) > 1 else left[0]
        return SimpleNamespace(mean=factor * float(np.mean([model.milliseconds(mask)[0] for mask in masks])))

    return watch
