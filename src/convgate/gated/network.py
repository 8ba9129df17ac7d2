"""A gated network: the original model's layers, gates beside them, decisions as outputs."""

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import _disable_current_modes

from convgate.cost import Cost, Ledger
from convgate.errors import ConvgateError, InputError, PlanError, TraceError
from convgate.gated.gate_set import OURS, GateSet, free_name, place_in
from convgate.gated.hooks import hooked_blocks
from convgate.gated.inputs import check_batch, check_binary, check_decisions, check_size
from convgate.gated.layout import Layout, lay_out, plan_at
from convgate.gated.layouts import Layouts
from convgate.gated.method import Method
from convgate.gated.model import Root, adopt, as_root, attribute, cleaned, has_attribute, restored
from convgate.gated.plan import Plan
from convgate.gating import Decision, Decisions, FillPath, Gate
from convgate.models import identify
from convgate.preparation import Preparation
from convgate.reading.alone import READING
from convgate.reading.modes import get_modes, set_modes
from convgate.reading.trace import Trace, read_again

__all__ = ["GatedNetwork"]

_STATE = "_convgate"


@dataclass
class _State:
    """What a gated network keeps beside its modules.

    `model` is the model that was captured (see `convgate.gated.model`), `plan` that for the example's size, `layouts`
    what is executed for each size, and `trace` the reading of the model for the example's, None where it has to be read
    again.
    """

    model: nn.Module
    plan: Plan
    layouts: Layouts
    trace: Trace | None = None


class GatedNetwork(nn.Module):
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

    _convgate: _State
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
        size = _size_of(plan)
        vars(self)[_STATE] = _State(trace.module, plan, Layouts(size, {size: lay_out(trace, plan)}), trace)
        self.train(trace.module.training)
        set_modes(self, modes)
        vars(self)["preparation"] = None

    @property
    def convgate(self) -> GateSet:
        """The gates by name, the trunk that they share, if the method has one, and the layers of cheaper paths."""
        gates = self._modules[place_in(self)]
        assert isinstance(gates, GateSet)
        return gates

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
        elif name in (OURS, place_in(self)):
            raise InputError(f"'{name}' holds the gates of this network; gate the model again to have other ones")
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
        return vars(self) | {_STATE: _State(restored(state.model, self), state.plan, Layouts(state.layouts.example))}

    def __deepcopy__(self, memo: dict[int, Any]) -> "GatedNetwork":
        state = self._convgate
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        memo[id(state.plan)] = state.plan
        clone.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        vars(clone)[_STATE].layouts = state.layouts.copied()
        return clone

    # -- modes -----------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> "GatedNetwork":
        """Switch to training or evaluation mode by the model's own `train`: what it keeps frozen stays frozen."""
        super().train(mode)
        if _STATE in vars(self) and type(self._convgate.model).train is not nn.Module.train:
            model = restored(self._convgate.model, self)
            model.train(mode)
            self.training = model.training
        return self

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
            {spec.name: Decision(spec.kind, *result) for spec, result in decided}, _size_of(layout.plan)
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

    # -- plan and cost ---------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """Which sites are gated, and how."""
        return self._convgate.plan

    @property
    def ledger(self) -> Ledger:
        """The MACs of every layer, and which gates they depend on, for images of the example's size."""
        return self.plan.ledger

    @property
    def graphs(self) -> dict[bool, fx.Graph]:
        """The captured graphs with gates in them, of evaluation (False) and training (True), for the example's size."""
        return self.graphs_at(self._convgate.layouts.example)

    def plan_at(self, size: tuple[int, int]) -> Plan:
        """The plan for images of `size` (height, width): the same gates, with the masks and the MACs of that size."""
        return self._layout(check_size(size)).plan

    def ledger_at(self, size: tuple[int, int]) -> Ledger:
        """The MACs of every layer, and which gates they depend on, for images of `size` (height, width).

        >>> net.ledger_at((48, 64)).dense  # doctest: +SKIP
        """
        return self.plan_at(size).ledger

    def ledger_for(self, decisions: Decisions) -> Ledger:
        """The MACs of every layer, and which gates they depend on, for images of the size that was decided for.

        That is the example's where the decisions do not say.
        """
        return self.ledger if decisions.size is None else self.ledger_at(decisions.size)

    def graphs_at(self, size: tuple[int, int]) -> dict[bool, fx.Graph]:
        """The captured graphs, of evaluation (False) and training (True), for images of `size` (height, width)."""
        return dict(self._layout(check_size(size)).graphs)

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

    # -- gates -----------------------------------------------------------------------------------------------------

    def gate_modules(self) -> Iterator[tuple[str, Gate]]:
        """(name, gate) in the plan's order."""
        yield from self.convgate.named_gates()

    def gate_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of all gates, and of what they share (published recipes put no weight decay on them)."""
        yield from self.convgate.gate_parameters()

    # -- graphs ----------------------------------------------------------------------------------------------------

    def graph_root(self, size: tuple[int, int] | None = None) -> nn.Module:
        """The root module for an interpreter of `graphs_at(size)`: its members have the model's own names."""
        layout = self._layout(self._convgate.layouts.example if size is None else check_size(size))
        return as_root(self, self._convgate.model, layout.constants)

    def get_submodule(self, target: str) -> nn.Module:
        # Not by attributes: a child may have the name of a method.
        first, _, rest = target.partition(".")
        child = self._modules.get(first)
        if child is None:
            return super().get_submodule(target)
        return child.get_submodule(rest)

    def _layout_for(self, images: Tensor) -> Layout:
        """Check the images, and give what is executed for their size."""
        if torch.jit.is_tracing():
            # Sizes are constants of a trace, and meant to be.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", torch.jit.TracerWarning)
                check_batch(images, self.plan, self._buffer)
                return self._layout((int(images.shape[2]), int(images.shape[3])))
        check_batch(images, self.plan, self._buffer)
        if not torch.compiler.is_compiling():
            return self._layout((images.shape[2], images.shape[3]))
        # Sizes are constants of a compiled graph, too: len(range()) is how to tell the compiler.
        height, width = len(range(images.shape[2])), len(range(images.shape[3]))
        if torch.compiler.is_exporting() and (height, width) not in self._convgate.layouts.by_size:
            raise InputError(
                f"this network has not seen images of {height}x{width} pixels; run it once on such images before it is "
                "exported"
            )
        self._prepare(height, width)
        return self._convgate.layouts.by_size[height, width]

    def _prepare(self, height: int, width: int) -> bool:
        """Make the layout for a size. While torch.compile reads the network this is called, not read."""
        layout = self._layout((height, width))
        blocks = hooked_blocks(self, layout.graphs[self.training])
        if blocks:
            raise InputError(
                f"{', '.join(map(repr, blocks))}: hooks on blocks are not called while a gated network is compiled or "
                "exported; remove them before, or register them on layers"
            )
        return True

    # What torch.compiler.assume_constant_result sets; calling that here would import the compiler, which takes seconds.
    _prepare._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def _layout(self, size: tuple[int, int]) -> Layout:
        layouts = self._convgate.layouts
        if torch.compiler.is_compiling() and size in layouts.by_size:
            return layouts.by_size[size]
        layout = layouts.find(size)
        if layout is None:
            with READING:
                # Another thread may have read it while this one waited.
                layout = layouts.find(size) or layouts.keep(size, self._lay_out(size))
        return layout

    def _lay_out(self, size: tuple[int, int]) -> Layout:
        """Read the model for images of another size, and put the gates in."""
        state = self._convgate
        # Where the network is being exported, tensors are fake and operations recorded; reading is not part of that.
        # And autocast keeps what it has cast: weights that reading cast would be fake in the run that follows.
        with _disable_current_modes(), torch.autocast(self._buffer.device.type, enabled=False):
            if state.trace is None:
                state.trace = self._read()
            if size == state.layouts.example:
                return lay_out(state.trace, state.plan)
            try:
                traced = state.trace.at(*size)
                return lay_out(traced, plan_at(state.plan, traced, self.convgate))
            except (TraceError, PlanError) as error:
                raise InputError(
                    f"this {state.plan.model} does not take images of {size[0]}x{size[1]} pixels (it was gated for "
                    f"{state.layouts.example[0]}x{state.layouts.example[1]}): {error}"
                ) from error

    def _read(self) -> Trace:
        """The model as it now is, read for the example's size."""
        model = restored(self._convgate.model, self)
        return read_again(model, self._convgate.plan.example)

    @property
    def _buffer(self) -> Tensor:
        """Some buffer of the gates: on the network's device, of its dtype."""
        return next(self.convgate.buffers())

    def _uniform_decisions(self, n: int, size: tuple[int, int] | None, value: float) -> Decisions:
        if not isinstance(n, int) or n < 1:
            raise InputError(f"decisions for {n} images; give a batch size, a whole number of at least 1")
        plan = self.plan if size is None else self.plan_at(size)
        device = self._buffer.device
        return Decisions(
            {spec.name: Decision(spec.kind, torch.full((n, *spec.shape), value, device=device)) for spec in plan.gates},
            _size_of(plan),
        )


def _size_of(plan: Plan) -> tuple[int, int]:
    height, width = plan.example[2:]
    return height, width


def _is_constant(value: Any) -> bool:
    return not callable(value) and not isinstance(value, property)


def _renewed(trace: Trace, norm: str) -> nn.Module:
    """A batch norm that scales and shifts as the one at the node `norm` does, with statistics of its own to come."""
    layer = copy.deepcopy(trace.layer(trace.node(norm)))
    assert isinstance(layer, nn.BatchNorm2d)
    layer.reset_running_stats()
    return layer
