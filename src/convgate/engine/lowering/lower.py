"""From a network to a program: translate its evaluation graph node by node, then fuse."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from convgate.cost import node_macs
from convgate.engine.lowering.draft import Draft
from convgate.engine.lowering.fuse import IMAGES, fuse
from convgate.engine.lowering.kinds import NATIVE_KINDS, native_kind
from convgate.engine.lowering.translate import translate
from convgate.engine.program import Program
from convgate.errors import InputError, LoweringError
from convgate.gated import GatedNetwork
from convgate.gated.costs import layer_names
from convgate.gating import base_path
from convgate.reading import trace
from convgate.reading.modes import evaluating

__all__ = ["Lowered", "lower"]


@dataclass(frozen=True, eq=False)
class Lowered:
    """A program, and the PyTorch functions behind its `External` operations, by target."""

    program: Program
    externals: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)


def lower(network: nn.Module, example: Tensor | None = None, *, fallback: str | None = None) -> Lowered:
    """The program that computes what `network` does in evaluation.

    Args:
        network: a gated network, or any CNN that can be traced (then with an example).
        example: float images [N, C, H, W]; of a gated network it is known.
        fallback: "torch" lets PyTorch compute what has no native form; None makes that an error.

    Raises:
        LoweringError: nodes without a native form, all of them named.
        InputError, TraceError: as `convgate.gate` does.

    """
    if fallback not in (None, "torch"):
        raise InputError(f"fallback={fallback!r}: give 'torch', or nothing to have unknown operations refused")
    if not isinstance(network, nn.Module):
        raise InputError(f"the network is a {type(network).__name__}; give a torch.nn.Module")
    if isinstance(network, GatedNetwork):
        return _lower_gated(network, fallback is not None)
    if example is None:
        raise InputError("compiling a network that is not gated takes an example: float images [N, C, H, W]")
    traced = trace(network, example)
    names = layer_names(traced, node_macs(traced))
    return _lower(
        traced.module.eval(),
        traced.evaluation,
        traced.example,
        names,
        tuple(names.values()),
        {},
        {},
        fallback is not None,
    )


def _lower_gated(network: GatedNetwork, external: bool) -> Lowered:
    plan = network.plan
    costs = {layer.name: layer for layer in plan.ledger.layers}
    layers = (*costs, *(f"gates.{gate}" for gate in plan.ledger.gates))
    specs = {gate.name: gate for gate in plan.gates}
    unknown = sorted({type(gate.kind).__name__ for gate in plan.gates if native_kind(gate.kind) is None})
    if unknown:
        raise LoweringError(
            f"the engine runs gates of {', '.join(kind.__name__ for kind in NATIVE_KINDS)}, and "
            f"{plan.method['name']} has gates of {', '.join(unknown)}, which it has no native form for; run the "
            "network itself"
        )
    graph = network.graphs[False]
    # A base path counts on its convolution's line.
    bases = {node.name: str(node.args[1].target) for node in graph.nodes if node.target is base_path}
    with evaluating(network):
        return _lower(
            network.graph_root, graph, plan.example, {**plan.layer_names, **bases}, layers, costs, specs, external
        )


def _lower(
    root: nn.Module,
    graph: fx.Graph,
    example: tuple[int, ...],
    names: Mapping[str, str],
    layers: tuple[str, ...],
    costs: Mapping,
    specs: Mapping,
    external: bool,
) -> Lowered:
    draft = Draft()
    image = draft.new(IMAGES, example[1:])
    shapes = _Shapes(root, graph).of(example)
    with torch.no_grad():
        done = translate(
            root, graph, image, draft, layer_names=names, shapes=shapes, gate_specs=specs, external=external
        )
    if done.missing:
        listed = "\n".join(f"  {node}: {reason}" for node, reason in done.missing.items())
        remedy = "" if external else '; compile(..., fallback="torch") lets PyTorch compute such nodes'
        raise LoweringError(f"the engine has no native form for {len(done.missing)} node(s){remedy}:\n{listed}")
    fuse(draft, frozenset(symbol.value for symbol in done.outputs), costs)
    return Lowered(draft.program((image.value,), done.outputs, layers), done.externals)


class _Shapes(fx.Interpreter):
    """Runs a graph on zeros to see each node's output shape."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        self.found: dict[str, tuple[int, ...]] = {}

    def of(self, example: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        parameter = next(self.module.parameters(), torch.empty(0))
        with torch.no_grad():
            self.run(torch.zeros(1, *example[1:], device=parameter.device, dtype=parameter.dtype))
        return self.found

    def run_node(self, n: fx.Node) -> object:
        output = super().run_node(n)
        if isinstance(output, Tensor):
            self.found[n.name] = tuple(output.shape)
        return output
