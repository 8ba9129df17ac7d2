"""What must hold of a plan before it can be applied: a method's mistakes, each with the method and the site."""

from collections.abc import Mapping
from typing import Any, NoReturn

import torch

from convgate.errors import PlanError
from convgate.gated.gate_set import TRUNK
from convgate.gated.plan import FillSpec, GateSpec, MaskSpec, PartialSpec, Site
from convgate.gating import NO_REACH, Activations, ChannelGroups, Gate, GateKind, Tiles
from convgate.reading.trace import Trace
from convgate.suggestions import closest

__all__ = ["check_gate", "check_sites"]


def check_sites(method: str, sites: Any, trace: Trace, *, has_trunk: bool) -> None:
    """Raise `PlanError`, naming `method` and the site, unless the sites fit each other and the traced model."""
    if not isinstance(sites, list | tuple) or not all(isinstance(site, Site) for site in sites):
        raise PlanError(f"{method}: sites() returned {sites!r}; it returns ([Site, ..], [Rejected, ..])")
    _Check(method, sites, trace, has_trunk).run()


def check_gate(method: str, site: str, spec: GateSpec, gate: Any) -> None:
    """Raise `PlanError` unless `gate`, built on the meta device, decides what `spec` says."""
    place = f"{method}, site '{site}', gate '{spec.name}'"
    if not isinstance(gate, Gate):
        raise PlanError(f"{place}: gate() returned {type(gate).__name__}; it returns a convgate.gating.Gate")
    if not callable(getattr(gate.head, "macs", None)):
        raise PlanError(f"{place}: the head {type(gate.head).__name__} has no method macs(grid), its MACs per sample")
    if tuple(gate.offset.shape) != spec.offset_shape:
        raise PlanError(
            f"{place}: its offset has shape {list(gate.offset.shape)}, and an offset that fits every input size has "
            f"{list(spec.offset_shape)}; build it with Gate(spec.offset_shape, ..)"
        )
    if gate.offset.device.type != "meta":
        return
    shape = (2, spec.channels) if spec.reads == TRUNK else (2, spec.channels, *(spec.pooled or spec.shape[1:]))
    try:
        logits = gate.head.eval()(torch.empty(shape, device="meta"))
    except NotImplementedError:
        return  # an operation without a meta kernel: what it computes is seen when it runs
    except Exception as error:
        raise PlanError(f"{place}: its head fails on a feature of shape {list(shape)}: {error}") from error
    if tuple(logits.shape) != (2, *spec.shape):
        raise PlanError(
            f"{place}: its head gives logits of shape {list(logits.shape[1:])}, and the mask has {list(spec.shape)}"
        )


class _Check:
    def __init__(self, method: str, sites: list[Site] | tuple[Site, ...], trace: Trace, has_trunk: bool) -> None:
        self.method, self.sites, self.trace, self.has_trunk = method, sites, trace, has_trunk
        self.order = {node.name: number for number, node in enumerate(trace.evaluation.nodes)}
        self.gates: dict[str, tuple[GateSpec, Site]] = {}
        self.used: set[str] = set()
        self.masked: dict[tuple[str, type], str] = {}
        self.place = method

    def fail(self, what: str) -> NoReturn:
        raise PlanError(f"{self.place}: {what}")

    def run(self) -> None:
        for site in self.sites:
            self.place = f"{self.method}, site '{site.name}'"
            for conv in site.convs:
                self._node(conv, "a convolution of the site")
            for gate in site.gates:
                self._gate(site, gate)
        for site in self.sites:
            for mask in site.masks:
                self.place = f"{self.method}, site '{site.name}'"
                self._mask(site, mask)
            for partial in site.partials:
                self.place = f"{self.method}, site '{site.name}'"
                self._partial(partial)
            for fill in site.fills:
                self.place = f"{self.method}, site '{site.name}'"
                self._fill(site, fill)
        for name, (_, site) in self.gates.items():
            self.place = f"{self.method}, site '{site.name}'"
            if name not in self.used:
                self.fail(f"gate '{name}' decides nothing; add a MaskSpec or a PartialSpec, or leave the gate out")

    def _node(self, name: str, what: str) -> tuple[int, ...]:
        """The shape of a node's output."""
        if name not in self.order:
            self.fail(f"{what} is '{name}', and the traced model has no such node{_close(name, self.order)}")
        shape = self.trace.shapes.get(name)
        if shape is None:
            self.fail(f"{what} is '{name}', whose output is not a tensor")
        return tuple(shape)

    def _gate(self, site: Site, gate: GateSpec) -> None:
        if not isinstance(gate, GateSpec):
            self.fail(f"its gates hold {gate!r}; give GateSpecs")
        if not isinstance(gate.kind, GateKind):
            self.fail(
                f"gate '{gate.name}' is of kind {gate.kind!r}; give one of convgate.gating: Tiles(side), "
                "ChannelGroups(channels, group), Activations(channels, group)"
            )
        if gate.name in self.gates:
            other = self.gates[gate.name][1].name
            self.fail(f"two gates are named '{gate.name}' (the other is in site '{other}'); give each its own name")
        self.gates[gate.name] = gate, site
        map_ = self._node(gate.on, f"the map of gate '{gate.name}' (on=..)")
        expected = gate.at(self.trace.shapes).shape
        if isinstance(gate.kind, ChannelGroups | Activations) and gate.kind.channels != map_[1]:
            self.fail(f"gate '{gate.name}' is for {gate.kind.channels} channels, and '{gate.on}' has {map_[1]}")
        if gate.shape != expected:
            self.fail(
                f"gate '{gate.name}' has masks of shape {list(gate.shape)}, and {gate.kind!r} on '{gate.on}' has "
                f"{list(expected)}; GateSpec.of(trace, ..) gives it"
            )
        if gate.reads == TRUNK:
            if not self.has_trunk:
                self.fail(f"gate '{gate.name}' reads the trunk, and trunk() returns None")
            return
        read = self._node(gate.reads, f"what gate '{gate.name}' reads")
        if read[1] != gate.channels:
            self.fail(f"gate '{gate.name}' is to read {gate.channels} channels, and '{gate.reads}' has {read[1]}")

    def _known(self, name: str, what: str) -> GateSpec:
        if name not in self.gates:
            self.fail(f"{what} names gate '{name}', and the gates are: {', '.join(self.gates) or 'none'}")
        self.used.add(name)
        return self.gates[name][0]

    def _before(self, gate: GateSpec, node: str, what: str) -> None:
        if gate.reads != TRUNK and self.order[gate.reads] >= self.order[node]:
            self.fail(
                f"gate '{gate.name}' reads '{gate.reads}', which the model computes after '{node}', {what}; a gate "
                "decides before what it masks is computed"
            )

    def _mask(self, site: Site, mask: MaskSpec) -> None:
        gate = self._known(mask.gate, f"the mask on '{mask.node}'")
        map_ = self._node(mask.node, f"what gate '{gate.name}' masks")
        if gate.kind.masking is None:
            self.fail(f"a mask on '{mask.node}' is of gate '{gate.name}', of {gate.kind!r}; these need a PartialSpec")
        whole = isinstance(mask.reach, tuple) and len(mask.reach) == 2 and all(map(_is_reach, mask.reach))
        if not whole:
            self.fail(
                f"the mask on '{mask.node}' has reach={mask.reach!r}; give (rows, columns), whole numbers of at least 0"
            )
        if mask.reach != NO_REACH and not isinstance(gate.kind, Tiles):
            self.fail(
                f"the mask on '{mask.node}' has reach={mask.reach}, and gate '{gate.name}' is of {gate.kind!r}; only "
                "masks of Tiles can be dilated"
            )
        self._before(gate, mask.node, "which it masks")
        key = mask.node, type(gate.kind)
        if key in self.masked:
            self.fail(
                f"'{mask.node}' is masked by two gates of one kind, '{self.masked[key]}' and '{gate.name}'; a map has "
                "one mask of each kind"
            )
        self.masked[key] = gate.name
        if len(map_) != 4:
            self.fail(f"gate '{gate.name}' masks '{mask.node}', whose shape {list(map_)} is not that of a feature map")
        match gate.kind:
            case ChannelGroups(channels=channels) if channels != map_[1]:
                self.fail(f"gate '{gate.name}' is for {channels} channels, and '{mask.node}' has {map_[1]}")
            case Tiles() if map_[2] < gate.shape[1] or map_[3] < gate.shape[2]:
                self.fail(
                    f"gate '{gate.name}' has {gate.shape[1]}x{gate.shape[2]} tiles, and '{mask.node}' has only "
                    f"{map_[2]}x{map_[3]} positions"
                )

    def _partial(self, partial: PartialSpec) -> None:
        gate = self._known(partial.gate, f"the PartialSpec of '{partial.conv}'")
        if not isinstance(gate.kind, Activations):
            self.fail(f"the PartialSpec of '{partial.conv}' names gate '{gate.name}' of {gate.kind!r}, not Activations")
        self._node(partial.conv, "a convolution computed in part")
        self._node(partial.node, "where its paths are combined")
        conv = self.trace.convolution(self.trace.node(partial.conv))
        if conv is None:
            self.fail(f"'{partial.conv}' is to be computed in part, and is not a convolution")
        if gate.reads != partial.conv:
            self.fail(f"gate '{gate.name}' reads '{gate.reads}'; it reads the convolution that it completes")
        parts = {"input": conv.in_channels, "output": conv.out_channels if partial.grouped else partial.parts}
        for what, channels in parts.items():
            if channels % partial.parts:
                self.fail(f"'{partial.conv}' has {channels} {what} channels, which {partial.parts} parts do not divide")
        key = partial.node, type(gate.kind)
        if key in self.masked:
            self.fail(f"'{partial.node}' is completed by two gates, '{self.masked[key]}' and '{gate.name}'")
        self.masked[key] = gate.name

    def _fill(self, site: Site, fill: FillSpec) -> None:
        what = f"the FillSpec of '{fill.node}'"
        gate = self._known(fill.gate, what)
        masks = [mask for mask in site.masks if (mask.gate, mask.node) == (fill.gate, fill.node)]
        if not any(mask.training and mask.reach == NO_REACH for mask in masks):
            self.fail(
                f"{what} names gate '{gate.name}', and the site has no mask of it there that is used in training and "
                "is not dilated; what is filled is what a mask closes"
            )
        if not isinstance(gate.kind, Tiles) or gate.reads == TRUNK:
            self.fail(f"{what} names gate '{gate.name}' of {gate.kind!r}; give one of Tiles that reads a map")
        map_ = self._node(fill.node, "what is filled")
        if fill.channels != map_[1]:
            self.fail(f"{what} gives {fill.channels} channels, and '{fill.node}' has {map_[1]}")
        if (fill.node, FillSpec) in self.masked:
            self.fail(f"'{fill.node}' is filled twice, by gates '{self.masked[fill.node, FillSpec]}' and '{gate.name}'")
        self.masked[fill.node, FillSpec] = gate.name


def _is_reach(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _close(name: str, known: Mapping[str, Any]) -> str:
    meant = closest(name, known)
    return f"; {meant}" if meant else ""
