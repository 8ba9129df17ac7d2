"""A plan: which sites of a model a method gates, and why others are left alone. Plain, immutable data."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from torch import nn

from convgate.cost import Ledger
from convgate.errors import PlanError
from convgate.gated.table import as_rich, as_text
from convgate.gating.heads import Start
from convgate.gating.kinds import Activations, ChannelGroups, GateKind, Shape
from convgate.gating.masks import NO_REACH, Reach
from convgate.models import ModelSpec
from convgate.reading.structure import Rejected
from convgate.reading.trace import Trace
from convgate.suggestions import closest

__all__ = ["LEFT_OUT", "FillSpec", "GateSpec", "MaskSpec", "PartialSpec", "Plan", "Site", "Ungated"]

LEFT_OUT = "left out by the caller"
"""Why a site is not gated that `Plan.select` or `exclude=` left out."""


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
    """A node's output is multiplied by a gate's mask, in evaluation and, if `training`, in training.

    A mask of tiles may be dilated: positions are kept, too, that are at most `reach` rows and columns of the node's map
    away from an open tile. `convgate.reading.reach.reaches` says how far the convolutions behind a node read.
    """

    gate: str
    node: str
    training: bool = True
    reach: Reach = NO_REACH


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
class FillSpec:
    """Closed tiles of a node's output, which `gate` masks, are filled from a cheaper path instead of staying zero.

    The path, `convgate.gating.FillPath`, reads the means over tiles that the gate's head sees, and gives `channels`
    values for each tile. It is computed for every tile of every sample.
    """

    gate: str
    node: str
    channels: int

    @property
    def path(self) -> str:
        """The path, as a name under the paths of a `GateSet` and among the ledger's `fills`."""
        return f"{self.gate.rpartition('.')[0]}.fill"

    def macs(self, gate: GateSpec) -> int:
        """Multiply-accumulates per sample, with the gate that it names."""
        return gate.units * gate.channels * self.channels


@dataclass(frozen=True)
class Ungated(Rejected):
    """A part of a site that has no gate of a kind, and why."""

    kind: type[GateKind]


@dataclass(frozen=True)
class Site:
    """A place in the model that is gated as one: a residual branch, an intermediate feature or one convolution.

    `convs` are the nodes of its convolutions and `output` the shape that it computes; `skipped` says what of it has no
    gate of which kind, and why. `partials` are the convolutions that are computed in part, `fills` say what of it is
    filled where it is closed.
    """

    name: str
    convs: tuple[str, ...]
    output: tuple[int, ...]
    gates: tuple[GateSpec, ...]
    masks: tuple[MaskSpec, ...]
    skipped: tuple[Ungated, ...] = ()
    partials: tuple[PartialSpec, ...] = ()
    fills: tuple[FillSpec, ...] = ()


class Source(Protocol):
    """What a plan was made from: it counts an edited plan again, and applies it."""

    def plan(self, sites: Sequence[Site], skipped: Sequence[Rejected]) -> "Plan":
        """The plan of these sites. Raises `PlanError` for a method's mistakes."""

    def apply(self, plan: "Plan") -> nn.Module:
        """The gated network."""


@dataclass(frozen=True)
class Plan:
    """What `convgate.gate` will do to a model. `print(plan)` shows it as a table.

    It can be edited (`select`, `without`) and applied (`apply`); each edit gives a new plan, counted again.

    >>> import convgate, torch
    >>> from convgate.models import create
    >>> plan = convgate.plan(create("cifar_resnet8"), convgate.DualGating(), torch.zeros(1, 3, 16, 16))
    >>> net = plan.without("layer3").apply()
    >>> [site.name for site in net.plan.sites]
    ['layer1.0', 'layer2.0']

    `model` is its class, `spec` what `convgate.models.create` would rebuild it from (None for a model in the user's own
    code); `example` is the shape of the images [N, C, H, W]; `method` describes the method as plain data; `fingerprint`
    identifies the traced graphs; `starts` says how each gate starts, for gates whose head states it.
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
    starts: Mapping[str, Start] = field(default_factory=dict, repr=False)
    source: Source | None = field(default=None, repr=False, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        height, width = self.example[2:]
        return height, width

    @property
    def gates(self) -> tuple[GateSpec, ...]:
        """All gates, in the order of the sites."""
        return tuple(gate for site in self.sites for gate in site.gates)

    @property
    def partials(self) -> tuple[PartialSpec, ...]:
        """All convolutions that are computed in part, in the order of the sites."""
        return tuple(partial for site in self.sites for partial in site.partials)

    @property
    def fills(self) -> tuple[FillSpec, ...]:
        """All fillings of closed tiles, in the order of the sites."""
        return tuple(fill for site in self.sites for fill in site.fills)

    @property
    def idle(self) -> tuple[str, ...]:
        """The gates that save nothing, e.g. because what they close is needed for a norm's statistics."""
        saving = {name for layer in self.ledger.layers for name in layer.gates}
        return tuple(gate.name for gate in self.gates if gate.name not in saving)

    # -- editing and applying --------------------------------------------------------------------------------------

    def select(self, keep: Callable[[Site], bool]) -> "Plan":
        """The plan with the sites for which `keep(site)` is true; the others are listed as left out.

        E.g. `plan.select(lambda site: site.output[2] > 7)` leaves sites with small maps alone.
        """
        left = [site for site in self.sites if not keep(site)]
        rejected = [Rejected(site.name, LEFT_OUT) for site in left]
        names = [name for site in left for node in site.convs if (name := self.layer_names[node]) != site.name]
        known = {skipped.name for skipped in self.skipped}
        rejected += [Rejected(name, LEFT_OUT) for name in names if name not in known]
        gated = {site.name for site in left} | set(names)
        others = [skipped for skipped in self.skipped if skipped.name not in gated]
        return self._source().plan([site for site in self.sites if site not in left], [*others, *rejected])

    def without(self, *names: str) -> "Plan":
        """The plan without the sites of these names, or below them: `without("layer4")` leaves layer4.0 and .1 out.

        Raises `PlanError` for a name that the plan does not have, and for one that is only a part of a site.
        """
        known = [site.name for site in self.sites] + [skipped.name for skipped in self.skipped]
        for name in names:
            if not any(_is_below(place, name) for place in known):
                raise PlanError(f"no site is called '{name}', or lies below it; {self._suggestion(name)}")
        return self.select(lambda site: not any(_is_below(site.name, name) for name in names))

    def apply(self) -> nn.Module:
        """The model with these gates: for a plan that was not edited, this is what `convgate.gate` returns.

        Raises `PlanError` when no site is left, or when the model no longer computes what it did when it was planned.
        """
        return self._source().apply(self)

    def check(self) -> None:
        """Raise `PlanError`, naming method and site, unless gates, masks and model fit together; `plan` checks, too."""
        self._source().plan(self.sites, self.skipped)

    def detached(self) -> "Plan":
        """The plan as plain data, without the model it was made for: it can be read, but not edited or applied."""
        return replace(self, source=None)

    def _source(self) -> Source:
        if self.source is None:
            raise PlanError(
                "this plan is that of a network that is gated already, and cannot be edited or applied; make one with "
                "convgate.plan(model, method, example)"
            )
        return self.source

    def _suggestion(self, name: str) -> str:
        inside = [
            site.name for site in self.sites if any(_is_below(self.layer_names[conv], name) for conv in site.convs)
        ]
        if inside:
            return f"it is gated as a part of {', '.join(map(repr, inside))}, which can be left out as a whole"
        names = [site.name for site in self.sites]
        return closest(name, names) or f"the sites are: {', '.join(names) or 'none'}"

    # -- showing ---------------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """One line: sites, gates, dense MACs and the share of them that is gated."""
        # A model without a single convolution is told so, too.
        dense, fixed, filling = max(self.ledger.dense, 1), self.ledger.gate_macs, self.ledger.fill_macs
        gateable = sum(layer.macs for layer in self.ledger.layers if layer.gated)
        return (
            f"{self.model} x {self.method['name']}: {len(self.sites)} sites, {len(self.gates)} gates; "
            f"{dense:,} dense MACs, {gateable / dense:.1%} of them gated, gates cost {fixed / dense:.3%}"
            + (f", filling closed tiles {filling / dense:.3%}" if filling else "")
        )

    def as_data(self) -> dict[str, Any]:
        """The plan as plain data, e.g. for JSON."""
        return {
            "model": self.model,
            "method": dict(self.method),
            "example": list(self.example),
            "dense_macs": self.ledger.dense,
            "gate_macs": self.ledger.gate_macs,
            "fill_macs": self.ledger.fill_macs,
            "sites": [_site_data(site) for site in self.sites],
            "skipped": {rejected.name: rejected.reason for rejected in self.skipped},
            "layers": {layer.name: layer.macs for layer in self.ledger.layers},
            "idle": list(self.idle),
            "uncounted": list(self.ledger.uncounted),
        }

    def __str__(self) -> str:
        return as_text(self)

    def __rich__(self) -> Any:
        return as_rich(self)


def _is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _site_data(site: Site) -> dict[str, Any]:
    data = asdict(replace(site, gates=(), skipped=()))
    gates = [{**asdict(gate), "kind": gate.kind.word, "group": gate.group} for gate in site.gates]
    skipped = [{"name": left.name, "reason": left.reason, "kind": left.kind.word} for left in site.skipped]
    return {**data, "gates": gates, "skipped": skipped}


def _mask_shape(kind: GateKind, of: tuple[int, ...]) -> Shape:
    """The mask's shape for a map [N, C, H, W], or for a vector [N, C]."""
    height, width = of[2:] if len(of) == 4 else (1, 1)
    return kind.mask_shape(of[1], height, width)
