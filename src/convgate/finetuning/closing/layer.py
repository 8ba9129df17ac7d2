"""A gate's units as the layers see them that read them: how they do without some of them, by second moments alone."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from convgate.finetuning.closing import order
from convgate.finetuning.closing.readers import Closable, Reader
from convgate.finetuning.closing.reconstruct import shift_output
from convgate.gated import GatedNetwork

__all__ = ["Layer", "keeping"]


@dataclass(frozen=True)
class Layer:
    """What is known of a gate's units from what their first reader reads."""

    gate: Closable
    weights: Tensor
    moments: Tensor
    ridge: float

    @classmethod
    def of(
        cls,
        network: GatedNetwork,
        gate: Closable,
        is_open: Tensor,
        fitted: Mapping[str, Tensor],
        checked: Mapping[str, Tensor],
    ) -> "Layer":
        """Of a gate whose units `is_open`, with the moments of images that are fitted to, and of others."""
        layer = network.get_submodule(gate.readers[0].layer)
        assert isinstance(layer, nn.Conv2d)
        weights = layer.weight.detach()
        channels = gate.spread(is_open)
        constants = gate.readers[0].takes_constants
        ridge = order.best_ridge(weights, fitted[gate.gate], checked[gate.gate], channels, constants)
        return cls(gate, weights, fitted[gate.gate], ridge)

    def make_up(self, network: GatedNetwork, closed: Tensor, is_open: Tensor) -> None:
        """Give the gate's readers weights that do without the closed units, by the moments alone."""
        channels = self.gate.spread(closed), self.gate.spread(is_open)
        for reader in self.gate.readers if bool(closed.any()) else ():
            layer = network.get_submodule(reader.layer)
            assert isinstance(layer, nn.Conv2d)
            weights, constant = order.made_up_weights(
                layer.weight, self.moments, *channels, self.ridge, reader.takes_constants
            )
            layer.weight.copy_(weights)
            if reader.takes_constants:
                shift_output(network, reader, constant)


@contextmanager
def keeping(network: GatedNetwork, readers: Iterable[Reader]) -> Iterator[None]:
    """Afterwards the readers, and the norms behind them, are as they were."""
    layers = [network.get_submodule(name) for reader in readers for name in (reader.layer, reader.norm) if name]
    kept = [{key: value.clone() for key, value in layer.state_dict().items()} for layer in layers]
    try:
        yield
    finally:
        for layer, state in zip(layers, kept, strict=True):
            layer.load_state_dict(state)
