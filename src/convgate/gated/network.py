"""A gated network: the original model's layers, gates beside them, decisions as outputs."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from convgate.cost import Cost, Ledger, node_macs
from convgate.errors import ConvgateError, InputError, PlanError
from convgate.gated.gate_set import OURS, GateSet
from convgate.gated.layout import Layout, lay_out
from convgate.gated.method import Method
from convgate.gated.model import Root, adopt, as_root, attribute, cleaned, has_attribute, restored
from convgate.gated.plan import Plan
from convgate.gating import Decision, Decisions, Gate
from convgate.reading.modes import get_modes, set_modes
from convgate.reading.trace import Trace, check_images, trace

__all__ = ["GatedNetwork"]

_STATE = "_convgate"


@dataclass
class _State:
    """What a gated network keeps beside its modules.

    `model` is the model that was captured (see `convgate.gated.model`); `layouts` maps a size [C, H, W] to the graphs
    for images of that size.
    """

    model: nn.Module
    plan: Plan
    layouts: dict[tuple[int, ...], Layout] = field(default_factory=dict)


class GatedNetwork(nn.Module):
    """A CNN whose gates decide, for each image, what is computed. Made by `convgate.gate`.

    Children, parameters and buffers of the model keep their names and state-dict keys; all that is added lies in one
    child, `convgate` (a `GateSet`). Plain attributes of the model can be read, and set: the model is then captured
    again. Its methods cannot be called, since they would bypass the gates; `dense()` gives the ordinary model back.
    Nothing is left on modules by a call: `decide` returns the decisions, and every other method takes them as an
    argument.

    Attributes:
        plan: which sites are gated, and how.
        ledger: the MACs of every layer, and which gates they depend on.
        graphs: the captured graphs with gates in them, of evaluation (False) and training (True).
        convgate: the gates by name, and the trunk that they share, if the method has one.

    """

    convgate: GateSet
    _convgate: _State

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
        self.add_module(OURS, gates)
        layouts = {plan.example[1:]: lay_out(trace, plan)}
        vars(self)[_STATE] = _State(cleaned(trace.module), plan, layouts)
        self.train(trace.module.training)
        set_modes(self, modes)

    # -- the model's attributes ------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if _STATE not in vars(self):
                raise
        return attribute(self._convgate.model, self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if _STATE not in vars(self) or name in vars(self):
            super().__setattr__(name, value)
        elif name == OURS:
            raise InputError(f"'{OURS}' holds the gates of this network; gate the model again to have other ones")
        elif name in self._modules or name in self._parameters or name in self._buffers:
            self._replace(name, value)
        elif has_attribute(self._convgate.model, name) and not hasattr(type(self), name):
            self._set_attribute(name, value)
        elif hasattr(GatedNetwork, name) and not hasattr(nn.Module, name):
            raise InputError(f"'{name}' is a part of every gated network, and cannot be set; choose another name")
        else:
            super().__setattr__(name, value)

    def _replace(self, name: str, value: Any) -> None:
        """Replace a child, parameter or buffer of the model, if the network still computes the planned layers."""
        members: dict[str, Any] = next(m for m in (self._modules, self._parameters, self._buffers) if name in m)
        before = members[name]
        super().__setattr__(name, value)
        if isinstance(value, Tensor) and isinstance(before, Tensor) and value.shape == before.shape:
            return
        try:
            self._capture_again()
        except ConvgateError:
            delattr(self, name)
            members[name] = before
            raise

    def _set_attribute(self, name: str, value: Any) -> None:
        """Set a plain attribute of the model, and capture again what it computes with it."""
        model = self._convgate.model
        if name not in vars(model) and not _is_constant(getattr(type(model), name)):
            raise InputError(
                f"'{name}' is a method or property of {type(model).__name__}, and cannot be set on a gated network"
            )
        before = dict(vars(model))
        vars(model)[name] = value
        try:
            self._capture_again()
        except ConvgateError:
            vars(model).clear()
            vars(model).update(before)
            raise

    def _capture_again(self) -> None:
        state = self._convgate
        layout = self._lay_out(state.plan.example[1:])
        state.layouts.clear()
        state.layouts[state.plan.example[1:]] = layout

    def dense(self) -> nn.Module:
        """The ordinary model: of its own class, with the current weights, without gates; a copy.

        >>> net.dense().load_state_dict(model.state_dict())
        """
        return copy.deepcopy(restored(self._convgate.model, self))

    # -- copies ----------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # Generated functions cannot be pickled (multiprocessing's spawn pickles modules); they are made again.
        state = self._convgate
        return vars(self) | {_STATE: _State(restored(state.model, self), state.plan)}

    def __deepcopy__(self, memo: dict[int, Any]) -> "GatedNetwork":
        state = self._convgate
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        memo[id(state.plan)] = state.plan
        clone.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        vars(clone)[_STATE].layouts.update(state.layouts)
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
        state = self._convgate
        layout = self._layout(state.plan.example[1:])
        held = {name: value.to(images.device) for name, value in layout.constants.items()}
        root = Root(self, state.model, held)
        run = layout.run[self.training]
        if given is None:
            output, results = run(root, images)
        else:
            output, results = run(root, images, *(given[spec.name].mask for spec in self.plan.gates))
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

    # -- plan and cost ---------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """Which sites are gated, and how."""
        return self._convgate.plan

    @property
    def ledger(self) -> Ledger:
        """The MACs of every layer, and which gates they depend on."""
        return self.plan.ledger

    @property
    def graphs(self) -> dict[bool, fx.Graph]:
        """The captured graphs with gates in them, of evaluation (False) and training (True)."""
        return dict(self._layout(self.plan.example[1:]).graphs)

    def cost(self, decisions: Decisions) -> Cost:
        """The MACs that these decisions cost: per sample, per layer, gates included.

        Raises `InputError` for decisions of another network.
        """
        self._check_decisions(decisions, None)
        return self.ledger.cost(decisions)

    # -- gates -----------------------------------------------------------------------------------------------------

    def gate_modules(self) -> Iterator[tuple[str, Gate]]:
        """(name, gate) in the plan's order."""
        yield from self.convgate.named_gates()

    def gate_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of all gates, and of what they share (published recipes decay none of them)."""
        yield from self.convgate.gate_parameters()

    # -- graphs ----------------------------------------------------------------------------------------------------

    @property
    def graph_root(self) -> nn.Module:
        """The module that an interpreter of `graphs` takes for its root: there every name is the model's."""
        return as_root(self, self._convgate.model, self._layout(self.plan.example[1:]).constants)

    def get_submodule(self, target: str) -> nn.Module:
        # Not by attributes: a child may have the name of a method.
        first, _, rest = target.partition(".")
        child = self._modules.get(first)
        if child is None:
            return super().get_submodule(target)
        return child.get_submodule(rest)

    def _layout(self, size: tuple[int, ...]) -> Layout:
        state = self._convgate
        if size not in state.layouts:
            state.layouts[size] = self._lay_out(size)
        return state.layouts[size]

    def _lay_out(self, size: tuple[int, ...]) -> Layout:
        """Capture the model as it now is, and put the gates in. Raises `PlanError` where the plan fits no longer."""
        state = self._convgate
        traced = trace(restored(state.model, self), torch.zeros(1, *size))
        names = state.plan.layer_names
        macs = {layer.name: layer.macs for layer in state.plan.ledger.layers}
        if {names.get(node, node): count for node, count in node_macs(traced).items()} != macs:
            raise PlanError(
                f"the {state.plan.model} inside this gated network has changed: its layers or their MACs are no longer "
                "those of the plan. Take the ordinary model, net.dense(), change it, and gate it again"
            )
        return lay_out(traced, state.plan)

    # -- checks ----------------------------------------------------------------------------------------------------

    def _check(self, images: Tensor) -> None:
        check_images(images, "the batch")
        if images.shape[1:] != torch.Size(self.plan.example[1:]):
            raise InputError(
                f"the batch has images of shape {list(images.shape[1:])}, and this network was gated for "
                f"{list(self.plan.example[1:])}: tiles and MACs depend on it. Resize the images, or gate the model "
                "with an example of this shape"
            )
        dtype = next(self.convgate.buffers()).dtype
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
        device = next(self.convgate.buffers()).device
        return Decisions(
            (spec.name, Decision(spec.kind, torch.full((n, *spec.shape), value, device=device)))
            for spec in self.plan.gates
        )


def _is_constant(value: Any) -> bool:
    return not callable(value) and not isinstance(value, property)


def _renewed(trace: Trace, norm: str) -> nn.Module:
    """A batch norm that scales and shifts as the one at the node `norm` does, with statistics of its own to come."""
    layer = copy.deepcopy(trace.layer(trace.node(norm)))
    assert isinstance(layer, nn.BatchNorm2d)
    layer.reset_running_stats()
    return layer
