"""The graphs of a gated network: what it executes in each mode."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from convgate.errors import PlanError
from convgate.gated.gate_set import TRUNK
from convgate.gated.insert import compile_forward, insert_gates
from convgate.gated.model import constants
from convgate.gated.plan import Plan
from convgate.reading.trace import Trace

__all__ = ["Layout", "lay_out"]


@dataclass(frozen=True, eq=False)
class Layout:
    """The graphs by mode (keys: training?), as functions of (root, images, *given masks), and the constants in them."""

    graphs: Mapping[bool, fx.Graph]
    run: Mapping[bool, Callable[..., Any]]
    constants: Mapping[str, Tensor]


def lay_out(trace: Trace, plan: Plan) -> Layout:
    """The traced model with the plan's gates and masks in both of its graphs.

    Raises `PlanError` where a gated place exists in one mode alone.
    """
    evaluation = {node.name: node for node in trace.evaluation.nodes}
    counterparts = trace.counterparts()
    needed = {m.node for site in plan.sites for m in site.masks} | {g.reads for g in plan.gates}
    needed |= {p.node for p in plan.partials}
    needed.discard(TRUNK)
    absent = [name for name in needed if name not in counterparts]
    if absent:
        raise PlanError(
            f"the model computes {', '.join(sorted(absent))} in evaluation but not in training, so gates there "
            "could not be trained; exclude these layers, or make the model's forward alike in both modes"
        )
    graphs = {
        False: insert_gates(trace.evaluation, plan, evaluation, trace.shapes, training=False),
        True: insert_gates(trace.training, plan, counterparts, trace.shapes, training=True),
    }
    return Layout(
        graphs=graphs,
        run={mode: compile_forward(graph, "training" if mode else "evaluation") for mode, graph in graphs.items()},
        constants={name: value for graph in graphs.values() for name, value in constants(trace.module, graph).items()},
    )
