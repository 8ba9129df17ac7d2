"""A gated model with Python around its convolutions: the model itself, whose convolutional part decides.

A detector takes lists of images and returns boxes. `GatedModel` is a class mixed into the detector's own, so that it
stays what it was for its users: its forward runs unchanged, in both modes, and so do its methods and attributes. Each
sub-module of the part has a `_Stage` in its place, with the same children, parameters and buffers. When the model calls
the first one, the whole part runs as a `GatedNetwork`; the others give back what it computed for them.

What belongs to one call of the model lies in a context variable for as long as that call lasts, so that nothing is left
on modules and several threads may call at once.
"""

import copy
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from convgate.cost import Cost, Ledger
from convgate.errors import InputError, PlanError
from convgate.gated.gate_set import GateSet, free_name
from convgate.gated.network import GatedNetwork
from convgate.gated.plan import Plan
from convgate.gating import Decisions, Gate
from convgate.reading.part import IMAGES, Leaf, Part
from convgate.reading.prepare import copy_model

__all__ = ["GatedModel", "around"]

_NETWORK = "_convgate_network"
_NAME = "_convgate_name"
_INSIDE = "_convgate_inside"
_FORWARD_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class GatedModel(nn.Module):
    """A model of any class whose convolutional part is gated. Made by `convgate.gate`; also of the model's own class.

    It is called, trained and read as the model is. Parameters and buffers keep their names; the gates' lie under
    `gates.`. What runs outside of the part (a second stage on proposals, say) is neither gated nor counted;
    `plan.ledger.uncounted` names it.

    Attributes:
        network: the part as a network of its own, from images [N, C, H, W] as the model prepares them to a tuple of
            what each sub-module of the part returns.

    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns; its gates decide."""
        return self._run(self.network, args, kwargs, None)[0]

    def decide(self, *args: Any, **kwargs: Any) -> tuple[Any, Decisions]:
        """(what the model returns, what its gates decided) for what the model is called with.

        The decisions are for the batch of images that the model makes of its arguments, of the size of that batch.
        """
        output, call = self._run(self.network, args, kwargs, None)
        assert call.decisions is not None
        return output, call.decisions

    def replay(self, images: Any, decisions: Decisions) -> Any:
        """What the model returns when these decisions are taken, for what `decide` was called with."""
        return self._run(self.network, (images,), {}, decisions)[0]

    def run_on(self, engine: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the model returns in evaluation where `engine` computes its part: `convgate.compile(model)`."""
        if self.training:
            raise InputError("an engine runs in evaluation; call model.eval() first")
        return self._run(_OnEngine(engine, _part(self)), args, kwargs, None)[0]

    def _run(self, runner: Any, args: Any, kwargs: Any, given: Decisions | None) -> tuple[Any, "_Call"]:
        call = _Call(runner, _part(self), given)
        token = _current.set(call)
        try:
            return super().forward(*args, **kwargs), call
        except Exception as error:
            _explain(error, args, self.plan.example[1])
            raise
        finally:
            _current.reset(token)

    # -- the part's ------------------------------------------------------------------------------------------------

    @property
    def network(self) -> GatedNetwork:
        """The gated part."""
        network: GatedNetwork = vars(self)[_NETWORK]
        return network

    @property
    def inside(self) -> tuple[str, ...]:
        """The sub-modules that the part was asked for to be in (`gate(.., inside=..)`); empty where it was found."""
        return vars(self)[_INSIDE]

    @property
    def convgate(self) -> GateSet:
        """See `GatedNetwork.convgate`."""
        return self.network.convgate

    @property
    def plan(self) -> Plan:
        """Which sites are gated, and how."""
        return self.network.plan

    @property
    def ledger(self) -> Ledger:
        """The MACs of the part's layers for images of the example's size, after the model has prepared them."""
        return self.network.ledger

    def plan_at(self, size: tuple[int, int]) -> Plan:
        """See `GatedNetwork.plan_at`; for the size of the prepared batch."""
        return self.network.plan_at(size)

    def ledger_at(self, size: tuple[int, int]) -> Ledger:
        """See `GatedNetwork.ledger_at`; for the size of the prepared batch."""
        return self.network.ledger_at(size)

    def ledger_for(self, decisions: Decisions) -> Ledger:
        """See `GatedNetwork.ledger_for`."""
        return self.network.ledger_for(decisions)

    def cost(self, decisions: Decisions, *, whole: bool = False) -> Cost:
        """See `GatedNetwork.cost`."""
        return self.network.cost(decisions, whole=whole)

    def open_decisions(self, n: int, size: tuple[int, int] | None = None) -> Decisions:
        """See `GatedNetwork.open_decisions`; for the size of the prepared batch."""
        return self.network.open_decisions(n, size)

    def closed_decisions(self, n: int, size: tuple[int, int] | None = None) -> Decisions:
        """See `GatedNetwork.closed_decisions`; for the size of the prepared batch."""
        return self.network.closed_decisions(n, size)

    def gate_modules(self) -> Iterator[tuple[str, Gate]]:
        """(name, gate) in the plan's order."""
        return self.network.gate_modules()

    def gate_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of all gates, and of what they share."""
        return self.network.gate_parameters()

    def dense(self) -> nn.Module:
        """The ordinary model: of its own class, with the current weights, without gates; a copy."""
        originals = {id(self.get_submodule(n)): self.network.get_submodule(n) for n in _part(self).names}
        whole = copy.copy(self)
        vars(whole)["_modules"] = {k: v for k, v in self._modules.items() if not isinstance(v, GateSet)}
        del vars(whole)[_NETWORK], vars(whole)[_INSIDE]
        whole.__class__ = type(self).__mro__[2]
        copies = {key: copy.deepcopy(module) for key, module in originals.items()}
        return copy.deepcopy(whole, copies)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Its class is made when it is needed, and cannot be imported by name.
        return _new, (GatedModel, type(self).__mro__[2]), self.__getstate__()


def _explain(error: Exception, args: Any, channels: int) -> None:
    """Raise `InputError` where an image in a list has a number of channels that explains why the model failed."""
    images = args[0] if args and isinstance(args[0], list | tuple) else ()
    for number, image in enumerate(images):
        if isinstance(image, Tensor) and (image.dim() != 3 or image.shape[0] not in (1, channels)):
            raise InputError(
                f"image {number} has shape {list(image.shape)}, and the model takes images [C, H, W] of {channels} "
                "channels; convert it (an alpha channel is left out by image[:3])"
            ) from error


class _Stage(nn.Module):
    """Stands for a sub-module of the part, and shares its children, parameters and buffers."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        call = _current.get()
        name = vars(self)[_NAME]
        if call is None or name not in call.part.names:
            raise InputError(f"'{name}' is a part of a gated model and runs with it; call the model")
        return call.result(name, args, kwargs, training=self.training)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _new, (_Stage, type(self).__mro__[2]), self.__getstate__()


class _Call:
    """One call of a gated model: what its part returned, and what its gates decided."""

    def __init__(self, runner: Any, part: Part, given: Decisions | None) -> None:
        self.runner, self.part, self.given = runner, part, given
        self.decisions: Decisions | None = None
        self._leaves: dict[Leaf, Any] = {}
        self._returned: tuple[Any, ...] | None = None

    def result(self, name: str, args: Any, kwargs: Any, *, training: bool) -> Any:
        """What the sub-module `name` returns for its arguments."""
        stages = self.part.stages
        if name == stages[0].name:
            if self._returned is not None:
                raise InputError(f"the model calls '{name}' a second time; a gated model does so once in each call")
            self._begin(args[0], training)
            assert self._returned is not None
            return self._returned[0]
        given = [id(leaf) for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for number, stage in enumerate(stages):
            if stage.name == name and self._returned and [id(self._leaves[leaf]) for leaf in stage.reads] == given:
                return self._returned[number]
        raise InputError(
            f"the model calls '{name}' with other tensors than when it was gated: it was given what "
            f"{', '.join(map(repr, self.part.names[: self.part.names.index(name)]))} returned. Gate it without "
            f"'{name}': gate(.., inside=[..])"
        )

    def _begin(self, images: Tensor, training: bool) -> None:
        self._leaves[IMAGES] = images
        if isinstance(self.runner, GatedNetwork):
            self.runner.training = training
            self._returned, self.decisions = self.runner(images, given=self.given, return_decisions=True)
        else:
            self._returned = self.runner(images)
        for number, result in enumerate(self._returned or ()):
            for index, leaf in enumerate(pytree.tree_leaves(result)):
                self._leaves[Leaf(number, index)] = leaf


_current: ContextVar[_Call | None] = ContextVar("convgate_call", default=None)


class _OnEngine:
    """The part on an engine: tensors in, what the part's sub-modules return out."""

    def __init__(self, engine: Callable[..., Any], part: Part) -> None:
        self.engine, self.part = engine, part

    def __call__(self, images: Tensor) -> tuple[Any, ...]:
        arrays = pytree.tree_leaves(self.engine(images.detach().cpu().numpy()))
        returned, at = [], 0
        for stage in self.part.stages:
            count = stage.returns.num_leaves
            leaves = [torch.from_numpy(array).to(images.device) for array in arrays[at : at + count]]
            returned.append(pytree.tree_unflatten(leaves, stage.returns))
            at += count
        return tuple(returned)


def around(model: nn.Module, network: GatedNetwork, inside: tuple[str, ...] = ()) -> GatedModel:
    """A copy of `model` whose part is `network`, which was made of a `Part` of it, asked for by `inside`.

    Raises `PlanError` for a model with an attribute that a gated model has itself.
    """
    part = network._convgate.model
    assert isinstance(part, Part)
    taken = [name for name in _OWN if hasattr(model, name)]
    if taken:
        raise PlanError(
            f"{type(model).__name__} has {', '.join(map(repr, taken))}, as every gated model has; rename it, or gate "
            "the sub-module by itself and put it in the model's place"
        )
    memo: dict[int, Any] = {id(model.get_submodule(n)): network.get_submodule(n) for n in part.names}
    whole = copy_model(model, memo)
    for name in part.names:
        original = network.get_submodule(name)
        stage = _new(_Stage, type(original))
        vars(stage).update(vars(original))
        empty = vars(nn.Module())
        vars(stage).update({hooks: empty[hooks] for hooks in _FORWARD_HOOKS}, **{_NAME: name})
        whole.set_submodule(name, stage)
    whole._modules[free_name({*whole._modules, *whole._parameters, *whole._buffers})] = network.convgate
    kind: Any = type(whole)
    whole.__class__ = _mixed(GatedModel, kind)
    vars(whole).update({_NETWORK: network, _INSIDE: inside})
    assert isinstance(whole, GatedModel)
    return whole


_OWN = tuple(name for name in vars(GatedModel) if not name.startswith("_") and name != "forward")


@cache
def _mixed(mixin: Any, base: Any) -> type:
    return type(f"Gated{base.__name__}" if mixin is GatedModel else base.__name__, (mixin, base), {})


def _new(mixin: type, base: type) -> Any:
    kind: Any = _mixed(mixin, base)
    return kind.__new__(kind)


def _part(model: GatedModel) -> Part:
    part = model.network._convgate.model
    assert isinstance(part, Part)
    return part
