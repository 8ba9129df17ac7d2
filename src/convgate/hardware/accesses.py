"""How many fewer words go to and come from memory, under three ways of counting.

Papers rarely say which of them a figure is of; the three bracket what a machine can have.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from convgate.engine.program import Program
from convgate.hardware.accelerator import Accelerator
from convgate.hardware.simulate import simulate
from convgate.hardware.trace import Trace

__all__ = ["CONVENTIONS", "access_cut"]

CONVENTIONS: Mapping[str, str] = {
    "compulsory": "every word that is needed once: no buffer is too small, and each output channel's weights are apart",
    "scheduled": "what the machine moves, with its buffers and its schedule, in whole bursts",
    "per operand": "two words for every MAC: no word is used twice",
}
"""Ways of counting, and what they mean."""

_UNBOUNDED = 1 << 20


def access_cut(program: Program, trace: Trace, machine: Accelerator) -> dict[str, np.ndarray]:
    """Accesses of the dense network over those of the gated one, by convention: float64 [N].

    Maps between steps are written and read again in all of them: nothing stays on chip.
    """
    spilled = replace(machine, map_buffer_kib=0, timing="double_buffered", dataflow="ws")
    scheduled = simulate(program, trace, spilled)
    once = replace(
        spilled,
        columns=1,
        timing="serial",
        input_buffer_kib=_UNBOUNDED,
        weight_buffer_kib=_UNBOUNDED,
        tap_planes=False,
    )
    needed = simulate(program, trace, once)
    return {
        "compulsory": _total(needed.dense.words) / _total(needed.gated.words),
        "scheduled": _total(scheduled.dense.bursts) / _total(scheduled.gated.bursts),
        "per operand": scheduled.macs_cut,
    }


def _total(words: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.sum([of.sum(1) for of in words.values()], axis=0).astype(np.float64)
