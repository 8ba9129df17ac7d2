"""The layers of one image as matrix products: what all formats are written from."""

from dataclasses import dataclass

import numpy as np

from convgate.hardware.accelerator import Accelerator
from convgate.hardware.counts import Masks, count
from convgate.hardware.folds import products
from convgate.hardware.workload import Workload

__all__ = ["Product", "products_of"]


@dataclass(frozen=True)
class Product:
    """[positions, depth] times [depth, width]: open positions, open inputs times taps, open outputs."""

    name: str
    positions: int
    depth: int
    width: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.positions * self.depth * self.width


def products_of(workload: Workload, masks: Masks, machine: Accelerator) -> list[Product]:
    """The products of one image, in order; those of a layer in several groups or blocks are numbered."""
    found, masks = [], workload.masks(masks)
    for step in workload.array_steps():
        counts = count(step, workload.gates, masks, 1, machine.sum_positions, machine.columns)
        sizes = [np.broadcast_to(n, (1, n.shape[1]))[0].tolist() for n in products(step, counts, machine.columns)]
        for number, (positions, depth, width) in enumerate(zip(*sizes, strict=True)):
            if positions and depth and width:
                name = step.name if len(sizes[0]) == 1 else f"{step.name}:{number}"
                found.append(Product(name, positions, depth, width))
    return found
