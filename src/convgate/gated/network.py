"""A gated network: the original model's layers, gates beside them, decisions as outputs."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from convgate.cost import Cost, Ledger
from convgate.errors import InputError, PlanError
from convgate.gated.insert import GATES, compile_forward, insert_gates
from convgate.gated.method import Method
from convgate.gated.plan import TRUNK, Plan
from convgate.gating import Decision, Decisions, Gate
from convgate.reading.modes import get_modes, set_modes
from convgate.reading.trace import Trace, check_images

__all__ = ["GatedNetwork"]

_RESERVED = (GATES, "plan", "graphs", "_run_evaluation", "_run_training")
# What a gated network keeps for itself; a model that has attributes of these names is refused.


class GatedNetwork(nn.Module):
    """A CNN whose gates decide, for each image, what is computed. Made by `convgate.gate`.

    The original's layers keep their names and state-dict keys; the gates are under `gates.`. Nothing is left on
    modules by a call: `decide` returns the decisions, and every other method takes them as an argument.

    Attributes:
        plan: which sites are gated, and how.
        ledger: the MACs of every layer, and which gates they depend on.

    """

    plan: Plan

    def __init__(self, trace: Trace, plan: Plan, method: Method) -> None:
        super().__init__()
        self.plan = plan
        modes = get_modes(trace.module)
        for name, value in _attributes(trace.module):
            if hasattr(self, name) or name in _RESERVED:
                raise PlanError(f"the model has an attribute '{name}', which a gated network needs; rename the model's")
            _register(self, name, value)
        gates = nn.Module()
        for spec in plan.gates:
            _nest(gates, spec.name, method.gate(spec))
        for partial in plan.partials:
            if partial.norm:
                _nest(gates, partial.base_norm, _renewed(trace, partial.norm))
        trunk = method.trunk(trace.example)
        if trunk is not None:
            _, _, name = TRUNK.partition(".")
            if name in gates._modules:
                raise PlanError(f"the model has a module '{name}', a name that a gated network needs; rename it")
            gates.add_module(name, trunk)
        self.add_module(GATES, gates)
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
        self.graphs: dict[bool, fx.Graph] = {
            False: insert_gates(trace.evaluation, plan, evaluation, trace.shapes, training=False),
            True: insert_gates(trace.training, plan, counterparts, trace.shapes, training=True),
        }
        self._compile()
        self.train(trace.module.training)
        set_modes(self, modes)

    def _compile(self) -> None:
        self._run_evaluation = compile_forward(self.graphs[False], "evaluation")
        self._run_training = compile_forward(self.graphs[True], "training")

    def __getstate__(self) -> dict[str, Any]:
        # Generated functions cannot be pickled (multiprocessing's spawn pickles modules); they are made again.
        hidden = ("_run_evaluation", "_run_training")
        return {key: value for key, value in super().__getstate__().items() if key not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compile()

    def __deepcopy__(self, memo: dict[int, Any]) -> "GatedNetwork":
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        shared = {"plan": self.plan, "graphs": self.graphs}
        state = {key: value for key, value in self.__getstate__().items() if key not in shared}
        clone.__setstate__(copy.deepcopy(state, memo) | shared)
        return clone

    # -- running ---------------------------------------------------------------------------------------------------

    def forward(self, images: Tensor, *, given: Decisions | None = None, return_decisions: bool = False) -> Any:
        """What the model returns for `images` (float [N, C, H, W]); with `return_decisions`, (that, `Decisions`).

        Each gate decides for itself unless its decision is `given`. Raises `InputError` for images of another shape
        than the plan's, and for decisions of another network or batch.
        """
        self._check(images)
        if given is not None:
            self._check_decisions(given, len(images))
        run = self._run_training if self.training else self._run_evaluation
        if given is None:
            output, results = run(self, images)
        else:
            output, results = run(self, images, *(given[spec.name].mask for spec in self.plan.gates))
        if not return_decisions:
            return output
        decided = zip(self.plan.gates, results, strict=True)
        return output, Decisions((spec.name, Decision(spec.kind, *result)) for spec, result in decided)

    def decide(self, images: Tensor) -> tuple[Any, Decisions]:
        """(what the model returns, what its gates decided) for `images` (float [N, C, H, W])."""
        return self(images, return_decisions=True)

    def replay(self, images: Tensor, decisions: Decisions) -> Any:
        """What the model returns for `images` when these decisions are taken, whatever its gates would say.

        Raises `InputError` when the decisions are of another network or batch, or are not 0 and 1.
        """
        self._check(images)
        self._check_decisions(decisions, len(images))
        for name, decision in decisions.items():
            if not bool(((decision.mask == 0) | (decision.mask == 1)).all()):
                raise InputError(f"the mask of gate '{name}' holds values other than 0 and 1")
        return self(images, given=decisions)

    def open_decisions(self, n: int) -> Decisions:
        """Decisions that open every gate, for a batch of `n`: the original network."""
        return self._uniform_decisions(n, 1.0)

    def closed_decisions(self, n: int) -> Decisions:
        """Decisions that close every gate, for a batch of `n`: the shortcut path alone where branches have spatial
        gates; elsewhere gated features are zero and the layers behind them compute what they make of zeros.
        Convolutions that are computed in part give their base path.
        """
        return self._uniform_decisions(n, 0.0)

    # -- counting --------------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        return self.plan.ledger

    def cost(self, decisions: Decisions) -> Cost:
        """The MACs that these decisions cost: per sample, per layer, gates included.

        Raises `InputError` for decisions of another network.
        """
        self._check_decisions(decisions, None)
        return self.ledger.cost(decisions)

    # -- gates -----------------------------------------------------------------------------------------------------

    def gate_modules(self) -> Iterator[tuple[str, Gate]]:
        """(name, gate) in the plan's order."""
        for spec in self.plan.gates:
            gate = self.get_submodule(f"{GATES}.{spec.name}")
            assert isinstance(gate, Gate)
            yield spec.name, gate

    @property
    def trunk(self) -> nn.Module | None:
        """The sub-network that the gates share, if the method has one (see `Method.trunk`)."""
        return self.get_submodule(GATES)._modules.get(TRUNK.partition(".")[2])

    def gate_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of all gates, and of what they share (published recipes decay none of them)."""
        return self.get_submodule(GATES).parameters()

    # -- checks ----------------------------------------------------------------------------------------------------

    def _check(self, images: Tensor) -> None:
        check_images(images, "the batch")
        if images.shape[1:] != torch.Size(self.plan.example[1:]):
            raise InputError(
                f"the batch has images of shape {list(images.shape[1:])}, and this network was gated for "
                f"{list(self.plan.example[1:])}: tiles and MACs depend on it. Resize the images, or gate the model "
                "with an example of this shape"
            )
        dtype = next(self.get_submodule(GATES).buffers()).dtype
        if images.dtype != dtype and not torch.is_autocast_enabled(images.device.type):
            raise InputError(f"the batch is {images.dtype} and the network {dtype}; convert one, or use torch.autocast")

    def _check_decisions(self, decisions: Decisions, n: int | None) -> None:
        """Are these this network's gates, with masks of the right shapes, for `n` samples (any number, if None)?"""
        if not isinstance(decisions, Decisions):
            raise InputError(f"decisions are a {type(decisions).__name__}; give the Decisions that decide() returns")
        names = [spec.name for spec in self.plan.gates]
        if set(decisions) != set(names):
            missing, extra = sorted(set(names) - set(decisions)), sorted(set(decisions) - set(names))
            raise InputError(
                f"these decisions are of another network (missing gates: {missing or 'none'}; unknown: "
                f"{extra or 'none'}); give what decide() of this network returned"
            )
        n = decisions.batch_size if n is None else n
        for spec in self.plan.gates:
            shape = list(decisions[spec.name].mask.shape)
            if shape != [n, *spec.shape]:
                raise InputError(
                    f"the mask of gate '{spec.name}' has shape {shape}; this network and batch take {[n, *spec.shape]}"
                )

    def _uniform_decisions(self, n: int, value: float) -> Decisions:
        if not isinstance(n, int) or n < 1:
            raise InputError(f"decisions for {n} images; give a batch size, a whole number of at least 1")
        device = next(self.get_submodule(GATES).buffers()).device
        return Decisions(
            (spec.name, Decision(spec.kind, torch.full((n, *spec.shape), value, device=device)))
            for spec in self.plan.gates
        )


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What the traced graph reads from the model's root: children, parameters, buffers, traced constants."""
    # Not named_children() and the like, which leave out a second name of the same module.
    yield from ((name, child) for name, child in module._modules.items() if child is not None)
    yield from ((name, parameter) for name, parameter in module._parameters.items() if parameter is not None)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            yield name, (buffer, name not in module._non_persistent_buffers_set)
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield name, (value, False)


def _register(network: nn.Module, name: str, value: Any) -> None:
    if isinstance(value, nn.Parameter):
        network.register_parameter(name, value)
    elif isinstance(value, nn.Module):
        network.add_module(name, value)
    else:
        tensor, persistent = value
        network.register_buffer(name, tensor, persistent=persistent)


def _renewed(trace: Trace, norm: str) -> nn.Module:
    """A batch norm that scales and shifts as the one at the node `norm` does, with statistics of its own to come."""
    layer = copy.deepcopy(trace.layer(trace.node(norm)))
    assert isinstance(layer, nn.BatchNorm2d)
    layer.reset_running_stats()
    return layer


def _nest(root: nn.Module, path: str, leaf: nn.Module) -> None:
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, leaf)
