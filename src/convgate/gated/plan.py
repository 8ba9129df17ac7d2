"""A plan: which sites of a model a method gates, and why others are left alone. Plain, immutable data."""

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from convgate.cost import Ledger
from convgate.gating.kinds import Activations, ChannelGroups, GateKind, Shape
from convgate.models import ModelSpec
from convgate.reading.structure import Rejected
from convgate.reading.trace import Trace

__all__ = ["GateSpec", "MaskSpec", "PartialSpec", "Plan", "Site"]


@dataclass(frozen=True)
class GateSpec:
    """One gate: what it decides about, what it reads, and the shape [units...] of its mask without the batch.

    `reads` is a node name of the evaluation graph and `channels` the number of channels there; its head sees the
    means over a grid of tiles, `pooled`. Or `reads` is `TRUNK` and the head sees the trunk's `channels` features. Of a
    gate of `Activations`, `reads` is the convolution whose partial sums its head sees, position by position. `on` is
    the node whose map the mask is made for: that map's size gives `shape`, by `kind.mask_shape`.
    """

    name: str
    kind: GateKind
    reads: str
    channels: int
    on: str
    shape: Shape

    @classmethod
    def of(
        cls, trace: Trace, name: str, kind: GateKind, *, reads: str, on: str, channels: int | None = None
    ) -> "GateSpec":
        """The gate with `channels` (unless given) and `shape` as the traced model has them."""
        channels = trace.shapes[reads][1] if channels is None else channels
        return cls(name, kind, reads, channels, on, _mask_shape(kind, trace.shapes[on]))

    def at(self, shapes: Mapping[str, tuple[int, ...]]) -> "GateSpec":
        """The same gate for an input of another size, at which the nodes' outputs have `shapes`."""
        return replace(self, shape=_mask_shape(self.kind, shapes[self.on]))

    @property
    def pooled(self) -> tuple[int, int] | None:
        """The grid of means that the head sees; None where it sees the feature itself."""
        return self.kind.pooled(self.shape)

    @property
    def offset_shape(self) -> Shape:
        """The shape of the gate's offset, which does not depend on the size of the map; for `Gate(shape=..)`."""
        return self.kind.offset_shape

    @property
    def units(self) -> int:
        """Number of mask entries per sample."""
        return math.prod(self.shape)

    @property
    def group(self) -> int:
        """How many neighbouring channels share a mask entry; 1 for tiles, which are for all channels."""
        return self.kind.group if isinstance(self.kind, ChannelGroups | Activations) else 1

    def describe(self) -> str:
        """Kind and mask in words, e.g. "spatial 4x4 tiles"."""
        return f"{self.kind} {self.kind.describe(self.shape)}"


@dataclass(frozen=True)
class MaskSpec:
    """A node's output is multiplied by a gate's mask, in evaluation and, if `training`, in training."""

    gate: str
    node: str
    training: bool = True


@dataclass(frozen=True)
class PartialSpec:
    """A convolution is completed only where its (activation) gate is open; elsewhere its output is the base path's.

    The base path sums over 1/`parts` of the input channels: the same first chunk for all outputs or, if `grouped`,
    chunk i for the i-th chunk of the outputs; of channels in shuffled order, if `shuffled`. See `gating.base_path`.
    Where `norm`, the node of the batch norm that follows, is named, the base path goes through a batch norm of its own,
    and full and base path are combined after the two.
    """

    gate: str
    conv: str
    parts: int
    grouped: bool = False
    shuffled: bool = False
    norm: str | None = None

    @property
    def node(self) -> str:
        """The node whose output is replaced by the combined one."""
        return self.norm or self.conv

    @property
    def base_norm(self) -> str:
        """The base path's batch norm, as a name under the paths of a `GateSet`."""
        return f"{self.gate.rpartition('.')[0]}.base_norm"


@dataclass(frozen=True)
class Site:
    """A place in the model that is gated as one: a residual branch, an intermediate feature or one convolution.

    `convs` are the nodes of its convolutions and `output` the shape that it computes; `skipped` says what of it has no
    gate of its own, and why. `partials` are the convolutions that are computed in part.
    """

    name: str
    convs: tuple[str, ...]
    output: tuple[int, ...]
    gates: tuple[GateSpec, ...]
    masks: tuple[MaskSpec, ...]
    skipped: tuple[Rejected, ...] = ()
    partials: tuple[PartialSpec, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What `convgate.gate` will do to a model. `print(plan)` shows it as a table.

    `model` is its class, `spec` what `convgate.models.create` would rebuild it from (None for a model of one's own);
    `example` is the shape of the images [N, C, H, W]; `method` describes the method as plain data; `fingerprint`
    identifies the traced graphs.
    """

    model: str
    spec: ModelSpec | None
    method: Mapping[str, Any]
    example: tuple[int, ...]
    sites: tuple[Site, ...]
    skipped: tuple[Rejected, ...]
    ledger: Ledger
    layer_names: Mapping[str, str] = field(repr=False)
    fingerprint: str = field(repr=False)

    @property
    def gates(self) -> tuple[GateSpec, ...]:
        """All gates, in the order of the sites."""
        return tuple(gate for site in self.sites for gate in site.gates)

    @property
    def partials(self) -> tuple[PartialSpec, ...]:
        """All convolutions that are computed in part, in the order of the sites."""
        return tuple(partial for site in self.sites for partial in site.partials)

    def summary(self) -> str:
        """One line: sites, gates, dense MACs and the share of them that is gated."""
        # A model without a single convolution is told so, too.
        dense, fixed = max(self.ledger.dense, 1), self.ledger.gate_macs
        gateable = sum(layer.macs for layer in self.ledger.layers if layer.gated)
        return (
            f"{self.model} x {self.method['name']}: {len(self.sites)} sites, {len(self.gates)} gates; "
            f"{dense:,} dense MACs, {gateable / dense:.1%} of them gated, gates cost {fixed / dense:.3%}"
        )

    def as_data(self) -> dict[str, Any]:
        """The plan as plain data, e.g. for JSON."""
        return {
            "model": self.model,
            "method": dict(self.method),
            "example": list(self.example),
            "dense_macs": self.ledger.dense,
            "gate_macs": self.ledger.gate_macs,
            "sites": [asdict(site) for site in self.sites],
            "skipped": {rejected.name: rejected.reason for rejected in self.skipped},
            "layers": {layer.name: layer.macs for layer in self.ledger.layers},
            "uncounted": list(self.ledger.uncounted),
        }

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=140, color_system=None).print(self.__rich__())
        return text.getvalue()

    def __rich__(self) -> Any:
        from rich import box
        from rich.console import Group
        from rich.table import Table

        table = Table("site", "convs", "output", "MACs", "share", "gates", title=self.summary(), box=box.SIMPLE_HEAD)
        macs = {layer.name: layer.macs for layer in self.ledger.layers}
        for site in self.sites:
            spent = sum(macs[self.layer_names[node]] for node in site.convs)
            gates = ", ".join(gate.describe() for gate in site.gates)
            share = f"{spent / max(self.ledger.dense, 1):.1%}"
            output = "x".join(map(str, site.output[1:]))
            table.add_row(site.name, str(len(site.convs)), output, f"{spent:,}", share, gates)
            for rejected in site.skipped:
                table.add_row(f"  {rejected.name}", "", "", "", "", f"no channel gate: {rejected.reason}")
        skipped = Table("skipped", "why", box=box.SIMPLE_HEAD)
        for rejected in self.skipped:
            skipped.add_row(rejected.name, rejected.reason)
        notes = f"not counted: {', '.join(self.ledger.uncounted) or 'nothing'}"
        return Group(table, skipped, notes) if self.skipped else Group(table, notes)


def _mask_shape(kind: GateKind, of: tuple[int, ...]) -> Shape:
    """The mask's shape for a map [N, C, H, W], or for a vector [N, C]."""
    height, width = of[2:] if len(of) == 4 else (1, 1)
    return kind.mask_shape(of[1], height, width)
