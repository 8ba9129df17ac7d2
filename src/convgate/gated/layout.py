"""A gated network for one input size: its plan, its graphs in both modes, and the functions made of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx, nn

from convgate.cost import Ledger, count_macs, node_macs
from convgate.errors import PlanError
from convgate.gated.costs import fill_macs, head_macs, layer_costs, layer_names, uncounted
from convgate.gated.gate_set import TRUNK, GateSet
from convgate.gated.hooks import call_hooks, hooked_blocks
from convgate.gated.insert import compile_forward, insert_gates
from convgate.gated.model import constants
from convgate.gated.plan import Plan, Site
from convgate.gated.skipping import layer_gates
from convgate.reading.structure import features
from convgate.reading.trace import Trace

__all__ = ["Layout", "lay_out", "plan_at"]


_VARIANTS = 8
# So many sets of hooked blocks are remembered.


@dataclass(frozen=True, eq=False)
class Layout:
    """What a gated network executes for images of one size.

    `plan` has the masks' shapes and the MACs of that size. `graphs` and `run` are by mode (training?); a function of
    `run` takes (root, images, *given masks), see `convgate.gated.model.Root`. `constants` are tensors that the model's
    forward makes itself.
    """

    plan: Plan
    graphs: Mapping[bool, fx.Graph]
    run: Mapping[bool, Callable[..., Any]]
    constants: Mapping[str, Tensor]
    _hooked: dict[tuple[bool, tuple[str, ...]], Callable[..., Any]] = field(default_factory=dict)

    def function(self, network: nn.Module, *, training: bool) -> Callable[..., Any]:
        """The function to run in a mode; where blocks of the network have hooks, one that calls them."""
        blocks = hooked_blocks(network, self.graphs[training])
        if not blocks:
            return self.run[training]
        run = self._hooked.get((training, blocks))
        if run is None:
            run = compile_forward(call_hooks(self.graphs[training], blocks), "with hooks")
            if len(self._hooked) >= _VARIANTS:
                self._hooked.clear()
            self._hooked[training, blocks] = run
        return run


def lay_out(trace: Trace, plan: Plan) -> Layout:
    """The traced model with the gates and masks of `plan`, which is for its size, in both of its graphs.

    Raises `PlanError` where a gated place exists in one mode alone.
    """
    evaluation = {node.name: node for node in trace.evaluation.nodes}
    counterparts = trace.counterparts()
    absent = [name for name in _places(plan) if name not in counterparts]
    if absent:
        raise PlanError(
            f"the model computes {', '.join(sorted(absent))} in evaluation but not in training, so gates there "
            "could not be trained; exclude these layers, or make the model's forward do the same in both modes"
        )
    graphs = {
        False: insert_gates(trace.evaluation, plan, evaluation, trace.shapes, training=False),
        True: insert_gates(trace.training, plan, counterparts, trace.shapes, training=True),
    }
    return Layout(
        plan=plan,
        graphs=graphs,
        run={mode: compile_forward(graph, "training" if mode else "evaluation") for mode, graph in graphs.items()},
        constants={name: value for graph in graphs.values() for name, value in constants(trace.module, graph).items()},
    )


def plan_at(plan: Plan, trace: Trace, gates: GateSet) -> Plan:
    """The plan for another reading of its model: the same sites, with the masks' shapes and the MACs of that reading.

    Raises `PlanError` where the model, read like that, does not compute what is gated.
    """
    absent = sorted(name for name in _places(plan) if name not in trace.shapes)
    if absent:
        raise PlanError(f"the model does not compute {', '.join(absent)}, which the plan gates")
    for spec in plan.gates:
        if spec.reads != TRUNK and trace.shapes[spec.reads][1] != spec.channels:
            raise PlanError(
                f"gate '{spec.name}' reads {spec.channels} channels of {spec.reads}, which now has "
                f"{trace.shapes[spec.reads][1]}"
            )
    sites = tuple(replace(site, gates=tuple(spec.at(trace.shapes) for spec in site.gates)) for site in plan.sites)
    macs = node_macs(trace)
    names = layer_names(trace, macs)
    layers = layer_costs(trace, macs, names, layer_gates(trace, sites, features(trace)[0]))
    unequal = [layer.name for layer in layers if layer.gates and layer.open_macs != layer.macs]
    if unequal:
        raise PlanError(f"what the gates of {', '.join(unequal)} save is not known: the layers run other MACs")
    own = {} if gates.trunk is None else {"trunk": count_macs(gates.trunk, trace.example[1:])}
    modules = dict(gates.named_gates())
    own |= {spec.name: head_macs(spec, modules[spec.name].head) for site in sites for spec in site.gates}
    return replace(
        plan,
        example=trace.example,
        sites=sites,
        ledger=Ledger(layers, own, uncounted(trace, macs), fill_macs(sites)),
        layer_names=names,
        fingerprint=trace.fingerprint(),
    )


def _places(plan: Plan) -> set[str]:
    """The nodes that the plan's gates and masks need."""
    sites: tuple[Site, ...] = plan.sites
    needed = {mask.node for site in sites for mask in site.masks} | {gate.reads for gate in plan.gates}
    return (needed | {partial.node for partial in plan.partials}) - {TRUNK}
