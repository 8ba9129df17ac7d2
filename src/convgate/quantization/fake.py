"""Fake quantisation: a network in training computes what its integers will be, and so learns to live with them.

While it is on, layers round their weights and what they read as `convgate.quantize` will, and gradients pass straight
through (`convgate.quantization.straight_through`). The network itself is not changed: two hooks on each layer round,
and ranges are kept beside it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from convgate.errors import InputError
from convgate.gated import GatedModel
from convgate.gating.partial import OPERANDS
from convgate.quantization.observers import MeanSquaredError, Observer
from convgate.quantization.reads import reads
from convgate.quantization.straight_through import limit_of, rounded, rounded_weight
from convgate.quantization.ties import MOST_APART
from convgate.reading.wrappers import unwrapped

__all__ = ["FakeQuantization", "fake_quantized"]

_FIRST, _EVERY = 8, 8
# Ranges are looked at in the first calls of a layer and then in one of so many: looking waits for the device.
_RATE = 0.1
# What each look counts for in the running mean, once there were enough of them.


class FakeQuantization(nn.Module):
    """The ranges of what a network's layers read, and the rounding of these layers for as long as it is on.

    Which layers: every `nn.Conv2d` and `nn.Linear` that `convgate.quantize` makes integers of, those that are computed
    in part (`ChannelGating`) among them; gates' heads and fill paths stay float32. Weights are rounded to -127 .. 127
    with a scale for each output channel; maps that layers read to 0 .. 255 if what wrote them cannot write negatives,
    else to -127 .. 127, with a scale for each map, or one for maps that share theirs. Ranges are running means of the
    limit that the observer gives for a batch in training mode. Layers that have seen no such batch yet read floats.

    It is a module of its own, which keeps no part of the network: its state is the ranges, and that of the network has
    the keys that it always has. `attached` turns the rounding on.

    Args:
        network: a gated network, or any CNN that `torch.fx` can trace.
        example: images [N, C, H, W] for a network that is not gated; of a gated one they are known.
        observer: the rule for ranges; by default `MeanSquaredError`.
        keep: layers that stay float32, as `convgate.quantize` takes them.
        tie: as `convgate.quantize` takes it.
        levels: steps on each side of zero, 1 .. 127; fewer than 127 imitate fewer bits.

    Attributes:
        layers: the names of the layers that round, in the order of `limits`.
        limits: the greatest magnitude that each layer reads unclipped, float32 [layers]; 0 for a layer that has seen no
            batch. The range of maps that share a scale is the largest of theirs; of those that share it if their ranges
            are alike, the largest that is not too far from a layer's own (`convgate.quantization.ties`).

    Raises:
        LoweringError, TraceError: the network cannot be quantised.
        InputError: it needs an example, there is no such layer to keep, nothing is left to quantise, or `levels` is out
            of range.

    >>> import torch, convgate
    >>> model = convgate.create_model("cifar_resnet8")
    >>> fake, images = FakeQuantization(model, torch.zeros(1, 3, 32, 32)), torch.randn(4, 3, 32, 32)
    >>> optimiser = torch.optim.SGD(model.parameters(), 0.01)
    >>> with fake.attached(model.train()):
    ...     model(images).logsumexp(1).sum().backward()
    >>> optimiser.step()

    """

    limits: Tensor
    _shares: Tensor

    def __init__(
        self,
        network: nn.Module,
        example: Any = None,
        *,
        observer: Observer | None = None,
        keep: Sequence[str] = (),
        tie: bool = True,
        levels: int = 127,
    ) -> None:
        super().__init__()
        if not 1 <= levels <= 127:
            raise InputError(f"levels={levels}: give how many steps there are on each side of zero, 1 to 127")
        self.observer = observer or MeanSquaredError()
        self.levels = levels
        self._reads = reads(_part(network), example, keep, tie=tie)
        if not self._reads:
            raise InputError("there is nothing to quantise: no layer computes with integers, or all of them are kept")
        self.layers = tuple(read.layer for read in self._reads)
        self.register_buffer("limits", torch.zeros(len(self._reads)))
        self._calls = [0] * len(self._reads)
        numbers = [read.group for read in self._reads]  # ordered, so that each group is a slice
        self._groups = [slice(numbers.index(n), len(numbers) - numbers[::-1].index(n)) for n in numbers]
        # A table where the limits are, since a list of indices would be copied there in each call.
        shares = [[other.shared == read.shared for other in self._reads] for read in self._reads]
        self.register_buffer("_shares", torch.tensor(shares), persistent=False)

    @contextmanager
    def attached(self, network: nn.Module) -> Iterator["FakeQuantization"]:
        """Round in the layers of `network`, of the structure that this was made for, until the block ends.

        Copies of the network that are made meanwhile do not round.

        Raises `InputError` for a network that is compiled, that rounds already, or whose layers are others or compute
        their weights (`torch.nn.utils.parametrize`).
        """
        layers = self._found(network)
        if (device := layers[0].weight.device) != self.limits.device:
            self.to(device)
        handles: list[Any] = []
        try:
            for index, layer in enumerate(layers):
                enter = _Enter(self, index)
                vars(layer)[OPERANDS] = _Operands(enter)
                handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
                # Also called when the layer fails, in which case its weights would stay rounded.
                handles.append(layer.register_forward_hook(_leave, always_call=True))
            yield self
        finally:
            for handle in handles:
                handle.remove()
            for layer in layers:
                vars(layer).pop(OPERANDS, None)
                _leave(layer)  # of a call that was broken off by Ctrl-C

    def read(self, index: int, x: Tensor, *, learns: bool) -> Tensor:
        """What the layer of that index reads, `x`, rounded; if it `learns`, its range follows `x` first."""
        read = self._reads[index]
        levels = self.levels if read.negative else 2 * self.levels + 1
        if learns:
            self._follow(index, x, levels)
        if not self._calls[index]:
            return x
        own, group = (self.limits * self._shares[index]).amax(), self.limits[self._groups[index]]
        scale = torch.where(group <= MOST_APART * own, group, own).amax() / levels
        return rounded(x, scale, -levels if read.negative else 0, levels)

    def get_extra_state(self) -> dict[str, Any]:
        """How often ranges were followed: how much the next batch counts depends on it."""
        return {"calls": list(self._calls)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See `get_extra_state`."""
        self._calls = list(state["calls"])

    def _follow(self, index: int, x: Tensor, levels: int) -> None:
        calls = self._calls[index]
        if calls < _FIRST or calls % _EVERY == 0:
            limit = limit_of(x, self.observer, levels)
            if not limit:
                return
            self.limits[index] += (limit - self.limits[index]) * max(1 / (calls + 1), _RATE)
        self._calls[index] += 1

    def _found(self, network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
        if dict(network.named_children()).get("_orig_mod") or network._compiled_call_impl is not None:
            raise InputError("fake quantisation looks at ranges, which compiled code cannot; give the network itself")
        named = dict(_part(network).named_modules(remove_duplicate=False))
        layers = []
        for name in self.layers:
            layer = named.get(name)
            if not isinstance(layer, nn.Conv2d | nn.Linear):
                raise InputError(f"there is no layer '{name}' here; give a network like the one that this was made for")
            if "weight" not in layer._parameters:
                raise InputError(
                    f"the weights of layer '{name}' are computed from others in each call; make them parameters first "
                    "(torch.nn.utils.parametrize.remove_parametrizations)"
                )
            if any(isinstance(hook, _Enter) for hook in layer._forward_pre_hooks.values()):
                raise InputError(f"layer '{name}' is fake-quantised already; end that block first")
            layers.append(layer)
        return layers


@contextmanager
def fake_quantized(network: nn.Module, example: Any = None, **options: Any) -> Iterator[FakeQuantization]:
    """Train `network` as `convgate.quantize` will compute it, for the length of a block.

    In the block, layers round their weights and what they read, and gradients pass straight through. Ranges follow the
    batches in training mode and are kept in evaluation, which then tells how good the integers will be. Afterwards the
    network is as before but for what it has learned; `convgate.quantize` chooses its ranges anew.

    Args:
        network: a gated network, or any CNN that `torch.fx` can trace; on any device.
        example: images [N, C, H, W] for a network that is not gated.
        **options: see `FakeQuantization`, which the block is given. One of its own serves to turn it on and off, and to
            keep the ranges in a file.

    Raises:
        ConvgateError: see `FakeQuantization` and its `attached`.

    >>> import torch, convgate
    >>> from convgate.quantization import fake_quantized
    >>> model, images = convgate.create_model("cifar_resnet8").train(), torch.randn(4, 3, 32, 32)
    >>> optimiser = torch.optim.SGD(model.parameters(), 0.01)
    >>> with fake_quantized(model, images):
    ...     for _ in range(2):
    ...         loss = torch.nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 3]))
    ...         optimiser.zero_grad()
    ...         loss.backward()
    ...         optimiser.step()
    >>> engine = convgate.quantize(model.eval(), [images])

    """
    with FakeQuantization(network, example, **options).attached(network) as fake:
        yield fake


class _Enter:
    """Before a layer computes: rounds what it reads, and puts rounded weights in front of its own."""

    def __init__(self, fake: FakeQuantization, index: int) -> None:
        self.fake, self.index = fake, index

    def __call__(self, layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        x, weight = self.operands(layer, args[0] if args else kwargs["input"], learns=layer.training)
        # An attribute of the instance comes before the parameter of the same name, which stays where it is.
        vars(layer)["weight"] = weight
        return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "input": x})

    def operands(self, layer: nn.Module, x: Tensor, *, learns: bool) -> tuple[Tensor, Tensor]:
        """What the layer computes with when it reads `x`."""
        weight = layer._parameters["weight"]
        assert weight is not None
        return self.fake.read(self.index, x, learns=learns), rounded_weight(weight, self.fake.levels)

    def __reduce__(self) -> Any:
        """Copies and pickles of a network have a hook that does nothing: ranges are those of one network."""
        return _nothing_done, ()


class _Operands:
    """For the base path of a layer that is computed in part; see `convgate.gating.partial.OPERANDS`."""

    def __init__(self, enter: _Enter) -> None:
        self.enter = enter

    def __call__(self, layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.enter.operands(layer, x, learns=False)  # the layer itself, which reads the same, has learned

    def __reduce__(self) -> Any:
        return _nothing_changed, ()


def _leave(layer: nn.Module, *_: Any) -> None:
    vars(layer).pop("weight", None)


def _nothing_done() -> Any:
    return _do_nothing


def _do_nothing(*_: Any) -> None:
    pass


def _nothing_changed() -> Any:
    return _own_operands


def _own_operands(layer: nn.Module, x: Tensor) -> tuple[Tensor, Any]:
    return x, layer.weight


def _part(network: nn.Module) -> nn.Module:
    """The network whose layers `convgate.quantize` looks at."""
    inner = unwrapped(network)
    return inner.network if isinstance(inner, GatedModel) else inner
