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


def watching(model, *factors):
    """A function like `watch`, of an engine that takes what the model says times the next factor, the last for ever."""
    left = list(factors)

    def watch(engine, images, masks=None, *, clock):
        handed = 0.0 if masks is None else model.handed
        if masks is None:
            masks = [{name: d.mask for name, d in engine.run(image).decisions.items()} for image in images]
        factor = left.pop(0) if len(left) > 1 else left[0]
        took = factor * float(np.mean([model.milliseconds(mask)[0] for mask in masks]))
        return SimpleNamespace(mean=took + handed)

    return watch
