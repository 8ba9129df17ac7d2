"""When the array waits for memory: one bus, two halves of every buffer, steps cut into bands."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convgate.hardware.accelerator import Accelerator

__all__ = ["Work", "stalls"]


@dataclass(frozen=True, eq=False)
class Work:
    """One band of a step, for N images: bytes that are loaded and stored, and cycles in between; int64 [N] each.

    `weights_after` and `maps_after` are numbers of earlier works, or -1: weights may be loaded once that one is
    computed (it decides which), maps once that one is stored (it writes them).
    """

    weights: np.ndarray
    maps: np.ndarray
    cycles: np.ndarray
    stores: np.ndarray
    weights_after: int = -1
    maps_after: int = -1


def stalls(works: Sequence[Work], machine: Accelerator, images: int) -> list[np.ndarray]:
    """By work, the cycles in which the array waits for memory: int64 [N]; the last one's include its store.

    The bus takes the loads of the next work before the stores of this one, unless the next one needs them. A transfer
    that finds the bus at rest waits for the memory's latency. A buffer's half is free when the work before the last is
    computed (loads) or stored (stores).
    """
    zeros = np.zeros(images, np.int64)
    bus = zeros - 1  # at rest
    computed: list[np.ndarray] = []
    stored: list[np.ndarray] = []
    loaded: list[np.ndarray] = []
    waited = []

    def transfer(amount: np.ndarray, ready: np.ndarray) -> np.ndarray:
        """When it ends; the bus is free again then."""
        nonlocal bus
        start = np.maximum(bus, ready) + machine.dram_latency_cycles * (ready > bus)
        end = np.where(amount > 0, start - (-amount // machine.dram_bytes_per_cycle), np.minimum(bus, ready))
        bus = np.maximum(bus, end)
        return end

    def load(number: int) -> None:
        work = works[number]
        free = computed[number - 2] if number >= 2 else zeros
        weights_ready = np.maximum(free, computed[work.weights_after]) if work.weights_after >= 0 else free
        end = transfer(work.weights, weights_ready)
        maps_ready = np.maximum(free, stored[work.maps_after]) if work.maps_after >= 0 else free
        loaded.append(np.maximum(end, transfer(work.maps, maps_ready)))

    for number, work in enumerate(works):
        if len(loaded) <= number:
            load(number)
        before = computed[-1] if computed else zeros
        start = np.maximum(before, loaded[number])
        if number >= 2:
            start = np.maximum(start, stored[number - 2])
        waited.append(start - before)
        computed.append(start + work.cycles)
        following = works[number + 1] if number + 1 < len(works) else None
        if following is not None and number not in (following.maps_after, following.weights_after):
            load(number + 1)
        stored.append(np.maximum(transfer(work.stores, computed[number]), computed[number]))
    if works:
        waited[-1] = waited[-1] + np.maximum(stored[-1] - computed[-1], 0)
    return waited
