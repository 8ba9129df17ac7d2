"""A gated network: the original model's layers, gates beside them, decisions as outputs."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from convgate.cost import Cost
from convgate.errors import InputError
from convgate.gated.captured import STATE, State
from convgate.gated.gate_set import GateSet, free_name
from convgate.gated.inputs import check_binary, check_decisions
from convgate.gated.layout import lay_out
from convgate.gated.layouts import Layouts
from convgate.gated.method import Method
from convgate.gated.model import Root, adopt
from convgate.gated.plan import Plan
from convgate.gated.sized import SizedModel
from convgate.gating import Decision, Decisions, FillPath, Gate
from convgate.preparation import Preparation
from convgate.reading.modes import get_modes, set_modes
from convgate.reading.trace import Trace

__all__ = ["GatedNetwork"]


class GatedNetwork(SizedModel):
    """A CNN whose gates decide, for each image, what is computed. Made by `convgate.gate`.

    Children, parameters and buffers of the model keep their names and state-dict keys. All that is added is in one
    child, a `GateSet`, named `gates` (`convgate` if the model has a member `gates`); the attribute `convgate` always
    returns it. Plain attributes of the model can be read and set; when one is set, the model is captured again. The
    model's methods cannot be called, since they would bypass the gates; `dense()` returns the ordinary model. Calls
    leave nothing behind on modules: `decide` returns the decisions, and every other method takes them as an argument.

    Attributes:
        plan: which sites are gated, and how.
        ledger: the MACs of every layer, and which gates they depend on.
        graphs: the captured graphs with gates in them, of evaluation (False) and training (True).
        preparation: how images are prepared for the network and what its classes are called, or None. It may be set;
            checkpoints and the engine's files carry it.

    """

    preparation: Preparation | None = None

    def __init__(self, trace: Trace, plan: Plan, method: Method) -> None:
        super().__init__()
        modes = get_modes(trace.module)
        adopt(self, trace.module)
        gates = GateSet([spec.name for spec in plan.gates], method.trunk(trace.example))
        for spec in plan.gates:
            gates.add_gate(spec.name, method.gate(spec))
        for partial in plan.partials:
            if partial.norm:
                gates.add_path(partial.base_norm, _renewed(trace, partial.norm))
        reads = {spec.name: spec.channels for spec in plan.gates}
        for fill in plan.fills:
            gates.add_path(fill.path, FillPath(reads[fill.gate], fill.channels))
        # Not by `add_module`, which refuses names of attributes.
        self._modules[free_name({*self._modules, *self._parameters, *self._buffers})] = gates
        layouts = Layouts(plan.size, {plan.size: lay_out(trace, plan)})
        vars(self)[STATE] = State(trace.module, plan, layouts, trace)
        self.train(trace.module.training)
        set_modes(self, modes)
        vars(self)["preparation"] = None

    # -- running ---------------------------------------------------------------------------------------------------

    def forward(self, images: Tensor, *, given: Decisions | None = None, return_decisions: bool = False) -> Any:
        """What the model returns for `images` (float [N, C, H, W]); with `return_decisions`, (that, `Decisions`).

        Each gate decides for itself unless its decision is `given`. Images may have any size that the model takes: the
        model is read again for a new size, and the sizes that were used last are remembered. Raises `InputError` for
        images that the model does not take, and for decisions of another network, batch or size.
        """
        layout = self._layout_for(images)
        if given is not None:
            check_decisions(given, layout.plan, len(images), images.device)
        root = Root(self, self._convgate.model, {k: v.to(images.device) for k, v in layout.constants.items()})
        if torch.compiler.is_compiling():
            run = layout.run[self.training]  # _prepare() has seen that there are no hooks
        else:
            run = layout.function(self, training=self.training)
        if given is None:
            output, results = run(root, images)
        else:
            output, results = run(root, images, *(given[spec.name].mask for spec in layout.plan.gates))
        if not return_decisions:
            return output
        decided = zip(layout.plan.gates, results, strict=True)
        return output, Decisions(
            {spec.name: Decision(spec.kind, *result) for spec, result in decided}, layout.plan.size
        )

    def decide(self, images: Tensor) -> tuple[Any, Decisions]:
        """(what the model returns, what its gates decided) for `images` (float [N, C, H, W])."""
        return self(images, return_decisions=True)

    def replay(self, images: Tensor, decisions: Decisions | Mapping[str, Any]) -> Any:
        """What the model returns for `images` when these decisions are taken instead of those of its gates.

        They may also be those of an engine, `engine.run(x).decisions`, or arrays by gate. Raises `InputError` when they
        are of another network or batch, or are not 0 and 1.
        """
        layout = self._layout_for(images)
        if isinstance(decisions, Mapping) and not isinstance(decisions, Decisions):
            kinds = {spec.name: spec.kind for spec in layout.plan.gates}
            decisions = Decisions.from_numpy(decisions, kinds, (images.shape[2], images.shape[3])).to(images.device)
        check_decisions(decisions, layout.plan, len(images), images.device)
        check_binary(decisions)
        return self(images, given=decisions)

    def open_decisions(self, n: int, size: tuple[int, int] | None = None) -> Decisions:
        """Decisions that open every gate, for `n` images of `size` (height, width; the example's if None): the original
        network.
        """
        return self._uniform_decisions(n, size, 1.0)

    def closed_decisions(self, n: int, size: tuple[int, int] | None = None) -> Decisions:
        """Decisions that close every gate, for `n` images of `size` (height, width; the example's if None).

        Where branches have gates of tiles, only the shortcut path is left; elsewhere gated features are zero, and the
        layers behind them compute on zeros. Convolutions that are computed in part return their base path.
        """
        return self._uniform_decisions(n, size, 0.0)

    def cost(self, decisions: Decisions, *, whole: bool = False) -> Cost:
        """The MACs that these decisions cost for images of their size: per sample, per layer, gates included.

        `whole` says that masks are known to hold nothing but 0 and 1; if not, they are looked at. Raises `InputError`
        for decisions of another network.
        """
        plan = self.plan
        if isinstance(decisions, Decisions) and decisions.size:
            plan = self._layout(decisions.size).plan
        check_decisions(decisions, plan)
        return plan.ledger.cost(decisions, whole=whole)

    def gate_modules(self) -> Iterator[tuple[str, Gate]]:
        """(name, gate) in the plan's order."""
        yield from self.convgate.named_gates()

    def gate_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of all gates, and of what they share (published recipes put no weight decay on them)."""
        yield from self.convgate.gate_parameters()

    def _uniform_decisions(self, n: int, size: tuple[int, int] | None, value: float) -> Decisions:
        if not isinstance(n, int) or n < 1:
            raise InputError(f"decisions for {n} images; give a batch size, a whole number of at least 1")
        plan = self.plan if size is None else self.plan_at(size)
        device = self._buffer.device
        return Decisions(
            {spec.name: Decision(spec.kind, torch.full((n, *spec.shape), value, device=device)) for spec in plan.gates},
            plan.size,
        )


def _renewed(trace: Trace, norm: str) -> nn.Module:
    """A batch norm that scales and shifts as the one at the node `norm` does, with statistics of its own to come."""
    layer = copy.deepcopy(trace.layer(trace.node(norm)))
    assert isinstance(layer, nn.BatchNorm2d)
    layer.reset_running_stats()
    return layer
