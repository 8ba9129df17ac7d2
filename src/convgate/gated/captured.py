"""A network that takes a model's place: its modules, parameters and attributes, and its reading."""

import copy
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor, nn

from convgate.errors import ConvgateError, InputError, PlanError
from convgate.gated.gate_set import OURS, GateSet, place_in
from convgate.gated.layout import lay_out, plan_at
from convgate.gated.layouts import Layouts
from convgate.gated.model import attribute, cleaned, has_attribute, restored
from convgate.gated.plan import Plan
from convgate.models import identify
from convgate.reading.trace import Trace, read_again

__all__ = ["STATE", "CapturedModel", "State"]

STATE = "_convgate"
"""The attribute that holds a network's `State`."""


@dataclass
class State:
    """What a gated network keeps beside its modules.

    `model` is the model that was captured (see `convgate.gated.model`), `plan` that for the example's size, `layouts`
    what is executed for each size, and `trace` the reading of the model for the example's, None where it has to be read
    again.
    """

    model: nn.Module
    plan: Plan
    layouts: Layouts
    trace: Trace | None = None


class CapturedModel(nn.Module):
    """Has the children, parameters and buffers of a model, with their names and state-dict keys, and one child more.

    Plain attributes of the model can be read and set; when one is set, the model is captured again.
    """

    _convgate: State

    @property
    def convgate(self) -> GateSet:
        """The gates by name, the trunk that they share, if the method has one, and the layers of cheaper paths."""
        gates = self._modules[place_in(self)]
        assert isinstance(gates, GateSet)
        return gates

    @property
    def plan(self) -> Plan:
        """Which sites are gated, and how."""
        return self._convgate.plan

    # -- the model's attributes ------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if STATE not in vars(self):
                raise
        return attribute(self._convgate.model, self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if STATE not in vars(self) or name in vars(self):
            super().__setattr__(name, value)
        elif name in (OURS, place_in(self)):
            raise InputError(f"'{name}' holds the gates of this network; gate the model again to have other ones")
        elif name in self._modules or name in self._parameters or name in self._buffers:
            self._replace(name, value)
        elif has_attribute(self._convgate.model, name) and not hasattr(type(self), name):
            self._set_attribute(name, value)
        elif _is_ours(type(self), name) and not hasattr(nn.Module, name):
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
        """Read the model as it now is, and plan for it. Raises `TraceError` or `PlanError`; then nothing changes."""
        state = self._convgate
        traced = self._read()
        try:
            plan = plan_at(state.plan, traced, self.convgate)
        except PlanError as error:
            raise PlanError(
                f"the {state.plan.model} in this gated network cannot be changed like that: {error}. Take the ordinary "
                "model, net.dense(), change it, and gate it again"
            ) from error
        layout = lay_out(traced, plan)
        state.plan, state.trace = replace(plan, example=state.plan.example, spec=identify(traced.module)), traced
        state.layouts.start_again(layout)

    def dense(self) -> nn.Module:
        """The ordinary model: of its own class, with the current weights, without gates; a copy.

        >>> import torch, convgate
        >>> model = convgate.create_model("cifar_resnet8")
        >>> net = convgate.gate(model, convgate.DualGating(), torch.zeros(2, 3, 16, 16))
        >>> net.dense().load_state_dict(model.state_dict())
        <All keys matched successfully>
        """
        return cleaned(copy.deepcopy(restored(self._convgate.model, self)))

    # -- copies ----------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # Generated functions cannot be pickled (multiprocessing's spawn pickles modules); they are made again.
        state = self._convgate
        return vars(self) | {STATE: State(restored(state.model, self), state.plan, Layouts(state.layouts.example))}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        state = self._convgate
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        memo[id(state.plan)] = state.plan
        clone.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        vars(clone)[STATE].layouts = state.layouts.copied()
        return clone

    # -- modes -----------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation mode by the model's own `train`: what it keeps frozen stays frozen."""
        super().train(mode)
        if STATE in vars(self) and type(self._convgate.model).train is not nn.Module.train:
            model = restored(self._convgate.model, self)
            model.train(mode)
            self.training = model.training
        return self

    def get_submodule(self, target: str) -> nn.Module:
        # Not by attributes: a child may have the name of a method.
        first, _, rest = target.partition(".")
        child = self._modules.get(first)
        if child is None:
            return super().get_submodule(target)
        return child.get_submodule(rest)

    def _read(self) -> Trace:
        """The model as it now is, read for the example's size."""
        model = restored(self._convgate.model, self)
        return read_again(model, self._convgate.plan.example)

    @property
    def _buffer(self) -> Tensor:
        """Some buffer of the gates: on the network's device, of its dtype."""
        return next(self.convgate.buffers())


def _is_ours(kind: type, name: str) -> bool:
    """Whether a class of this room defines it, not one made of it, as torch does where parameters are computed."""
    room = __name__.rpartition(".")[0]
    return any(name in vars(base) for base in kind.__mro__ if base.__module__.rpartition(".")[0] == room)


def _is_constant(value: Any) -> bool:
    return not callable(value) and not isinstance(value, property)
