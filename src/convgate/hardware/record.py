"""Record what an engine's gates decide."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from convgate.engine.inputs import checked_inputs
from convgate.engine.sizes import at
from convgate.errors import InputError
from convgate.hardware.digest import digest
from convgate.hardware.trace import Trace, joined

if TYPE_CHECKING:
    from convgate.engine import Engine

__all__ = ["record"]

_BATCH = 64
"""Images of one call, and so masks that are not packed yet."""


def record(engine: "Engine", images: np.ndarray | Iterable[np.ndarray], labels: np.ndarray | None = None) -> Trace:
    """The decisions of `engine` for `images`.

    Args:
        engine: as `convgate.compile` or `convgate.engine.load` made it.
        images: float32 [N, C, H, W] as the engine takes them, or batches of such; batches may be made one by one.
        labels: whole numbers [N] that are kept with the decisions.

    Raises:
        InputError: there are no images, or the network has no gates, or an image is not one that the engine takes.

    """
    if not engine.program.gates:
        raise InputError("the network has no gates, so there are no decisions to record; gate it before it is compiled")
    batches = [images] if isinstance(images, np.ndarray) else images
    parts, tied_to = [], digest(engine.settled())
    for batch in batches:
        if np.ndim(batch) != 4:
            checked_inputs(engine.program, [batch])  # refuses it
        for begin in range(0, len(batch), _BATCH):
            some = batch[begin : begin + _BATCH]
            masks = {name: decision.mask for name, decision in engine.run(some).decisions.items()}
            parts.append(Trace.of(at(engine.program, *some.shape[2:]), masks, tied_to=tied_to))
    if not parts:
        raise InputError("no images were given to record the decisions of")
    trace = joined(parts)
    if labels is None:
        return trace
    if len(labels) != trace.images:
        raise InputError(f"{len(labels)} labels were given for {trace.images} images")
    return Trace(trace.program, trace.size, trace.gates, trace.packed, trace.images, np.asarray(labels, np.int64))
