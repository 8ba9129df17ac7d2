"""From a network to a program: translate its evaluation graph node by node, then fuse."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from convgate.cost import LayerCost, node_macs
from convgate.engine.lowering.draft import Draft, Symbol
from convgate.engine.lowering.fuse import IMAGES, fuse
from convgate.engine.lowering.gates import place_gates
from convgate.engine.lowering.kinds import NATIVE_KINDS, native_kind
from convgate.engine.lowering.translate import Source, translate
from convgate.engine.outside import Outside
from convgate.engine.program import External, Program, references
from convgate.errors import InputError, LoweringError
from convgate.gated import PATHS, GatedModel, GatedNetwork, find_part
from convgate.gated.costs import layer_names
from convgate.gated.hooks import hooked_blocks
from convgate.gating import base_path, complete
from convgate.reading import Trace, trace
from convgate.reading.faithful import check_faithful
from convgate.reading.meta import check_values
from convgate.reading.modes import evaluating
from convgate.reading.wrappers import unwrapped

__all__ = ["Lowered", "lower"]


@dataclass(frozen=True, eq=False)
class Lowered:
    """A program, and the steps behind its `External` operations.

    `at` lowers the same network for images of another height and width.
    """

    program: Program
    outside: Outside = field(default_factory=Outside)
    at: "Callable[[int, int], Lowered] | None" = None


def lower(network: nn.Module, example: Any = None, *, fallback: str | None = None) -> Lowered:
    """The program that computes what `network` does in evaluation.

    Args:
        network: a gated network, or any CNN that can be traced (then with an example).
        example: float images [N, C, H, W], or whatever else a model with a convolutional part takes (see
            `convgate.gate`); of a gated network it is known.
        fallback: "torch" lets PyTorch compute what has no native form; None makes that an error.

    Raises:
        LoweringError: nodes without a native form, all of them named.
        InputError, TraceError: as `convgate.gate` does.

    """
    if fallback not in (None, "torch"):
        raise InputError(f"fallback={fallback!r}: give 'torch', or nothing to have unknown operations refused")
    if not isinstance(network, nn.Module):
        raise InputError(f"the network is a {type(network).__name__}; give a torch.nn.Module")
    network = unwrapped(network)
    check_values(network)
    if isinstance(network, GatedModel):
        network = network.network
    if isinstance(network, GatedNetwork):
        return _lower_gated(network, fallback is not None)
    if example is None:
        raise InputError("compiling a network that is not gated takes an example: float images [N, C, H, W]")
    traced = trace(network, example) if isinstance(example, Tensor) else find_part(network, example).trace
    check_faithful(traced)
    return _lower_trace(traced, fallback is not None)


def _lower_trace(traced: Trace, external: bool) -> Lowered:
    counted = node_macs(traced)
    names = layer_names(traced, counted)
    source = Source(traced.module.eval(), traced.evaluation, traced.example[1:], names)
    macs = {name: counted[node] for node, name in names.items()}
    lowered = _lower(source, tuple(names.values()), macs, {}, external)
    return replace(lowered, at=lambda height, width: _lower_trace(traced.at(height, width), external))


def _lower_gated(network: GatedNetwork, external: bool, size: tuple[int, int] | None = None) -> Lowered:
    height, width = size or network.plan.size
    plan = network.plan_at((height, width))
    costs = {layer.name: layer for layer in plan.ledger.layers}
    added = plan.ledger.always
    specs = {gate.name: gate for gate in plan.gates}
    unknown = sorted({type(gate.kind).__name__ for gate in plan.gates if native_kind(gate.kind) is None})
    if unknown:
        raise LoweringError(
            f"the engine runs gates of {', '.join(kind.__name__ for kind in NATIVE_KINDS)}, and "
            f"{plan.method['name']} has gates of {', '.join(unknown)}, which it has no native form for; run the "
            "network itself"
        )
    graph = network.graphs_at((height, width))[False]
    if hooked := hooked_blocks(network, graph):
        raise LoweringError(
            f"{', '.join(map(repr, hooked))}: the engine calls no hooks on blocks; remove them before compiling"
        )
    # A base path counts on its convolution's line.
    bases = {node.name: str(node.args[1].target) for node in graph.nodes if node.target is base_path}
    fills = {f"{PATHS}.{fill.path}": f"fills.{fill.path}" for fill in plan.fills}
    filling = {node.name: fills[node.target] for node in graph.nodes if node.target in fills}
    names = {**plan.layer_names, **bases, **filling}
    root = network.graph_root((height, width))
    source = Source(root, graph, (plan.example[1], height, width), names, specs, tuple(_parts(graph)))
    with evaluating(network):
        lowered = _lower(source, (*costs, *added), {**costs, **added}, costs, external)
    return replace(lowered, at=lambda height, width: _lower_gated(network, external, (height, width)))


def _parts(graph: fx.Graph) -> Iterator[frozenset[str]]:
    """The nodes of each convolution that is computed in part: they have a native form together or not at all."""
    for node in graph.nodes:
        if node.target is complete:
            full, base = node.args[:2]
            # A norm may stand behind each of the two.
            base = base if base.target is base_path else base.all_input_nodes[0]
            full = full if full.target == base.args[1].target else full.all_input_nodes[0]
            yield frozenset({node.name, full.name, base.name})


def _lower(
    source: Source,
    layers: tuple[str, ...],
    macs: Mapping[str, int | LayerCost],
    costs: Mapping[str, LayerCost],
    external: bool,
) -> Lowered:
    with torch.no_grad():
        done = translate(source, IMAGES, external=external)
    if done.missing:
        listed = "\n".join(f"  {node}: {reason}" for node, reason in done.missing.items())
        remedy = "" if external else '; compile(..., fallback="torch") lets PyTorch compute such nodes'
        raise LoweringError(f"the engine has no native form for {len(done.missing)} node(s){remedy}:\n{listed}")
    draft, outside = done.draft, done.outside
    _drop_unread(draft, done.outputs)
    seen = {name for op in draft.operations if isinstance(op, External) for name in references(op, "value")}
    fuse(draft, frozenset(o.value for o in done.outputs if isinstance(o, Symbol)) | seen, costs)
    place_gates(draft, source.gate_specs)
    native = {layer for operation in draft.operations for layer in references(operation, "layer")}
    outside.costs = {layer: macs[layer] for layer in layers if layer not in native} if outside.reasons else {}
    return Lowered(draft.program((done.images.value,), done.outputs, done.returns, layers), outside)


def _drop_unread(draft: Draft, outputs: list[Symbol | str]) -> None:
    """Results of PyTorch's that were to come into the program, which nothing there reads."""
    read = {name for op in draft.operations for name in op.inputs} | {o.value for o in outputs if isinstance(o, Symbol)}
    for number, operation in enumerate(draft.operations):
        if isinstance(operation, External) and operation.output not in read:
            draft.update(number, output="")
