"""The steps of a workload: matrix products on the array, and work on single elements.

Where a step's size depends on decisions, it names the gates.
"""

from dataclasses import dataclass

from convgate.engine.program import Gate

__all__ = ["ArrayStep", "Completion", "Step", "VectorStep"]


@dataclass(frozen=True)
class Step:
    """What all steps have.

    `layer` is the line of the ledger on which its MACs are counted, or "". A step of a `head` serves nothing but
    decisions, or what fills closed tiles. `reads` names the stored maps that it reads, `writes` the one that it writes;
    `after` the gates that must be decided before it begins.
    """

    name: str
    layer: str
    head: bool
    reads: tuple[str, ...]
    writes: str
    after: tuple[str, ...]


@dataclass(frozen=True)
class VectorStep(Step):
    """Work on single elements: `elements` of them, operands counted. `pooled` averages can be summed on the way in."""

    elements: int
    pooled: bool = False


@dataclass(frozen=True)
class Completion:
    """How partial sums are completed, by an activation gate: of `parts` chunks, or 1 if all outputs have the same base.

    `base` and `rest` are the input channels that one output reads in its base path and in its completion; `base` is 0
    where the partial sums come from elsewhere.
    """

    gate: Gate
    parts: int
    base: int
    rest: int


@dataclass(frozen=True)
class ArrayStep(Step):
    """A matrix product: at `out` (height, width) positions, `taps` times for `in_channels` and `out_channels`.

    In `groups`; `in_channels` and `out_channels` are those of all groups. `source` is the size of the map that is read,
    `added` the map that is added to the product, and `in_place` says that what it adds may stay where it is stored:
    closed positions and channels then cost nothing. The gates' fields name gates, "" for none; `read_positions` is the
    spatial gate that closed positions of the input already. `of_images` says that it reads the images themselves.
    """

    out: tuple[int, int]
    source: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    in_channels: int
    out_channels: int
    positions: str = ""
    inputs: str = ""
    outputs: str = ""
    read_positions: str = ""
    completion: Completion | None = None
    added: str = ""
    in_place: bool = False
    transposed: bool = False
    of_images: bool = False

    @property
    def taps(self) -> int:
        """Elements of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def area(self) -> int:
        """Positions of the product."""
        return self.out[0] * self.out[1]

    @property
    def depthwise(self) -> bool:
        """Whether each group is one channel wide."""
        return self.groups > 1 and self.in_channels == self.out_channels == self.groups
