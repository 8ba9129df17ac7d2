"""What gates add to a network's weights: on disk, and in memory."""

from dataclasses import dataclass

from convgate.gated.around import GatedModel
from convgate.gated.network import GatedNetwork

__all__ = ["GateWeights", "gate_weights"]


@dataclass(frozen=True)
class GateWeights:
    """How many weights the gates have, and how many the network has without them."""

    gates: int
    network: int

    @property
    def share(self) -> float:
        """What the gates add, as a share of the network's own weights."""
        return self.gates / self.network

    def __str__(self) -> str:
        return (
            f"gates add {self.share:.0%} to its weights ({4e-6 * self.gates:.1f} MB in float32 to "
            f"{4e-6 * self.network:.1f} MB)"
        )


def gate_weights(network: GatedNetwork | GatedModel) -> GateWeights:
    """Count the parameters of gates, with what they share, and all others.

    >>> import torch, convgate
    >>> net = convgate.gate(convgate.create_model("cifar_resnet8"), convgate.DualGating(), torch.zeros(1, 3, 16, 16))
    >>> print(gate_weights(net))
    gates add 2% to its weights (0.0 MB in float32 to 0.3 MB)
    """
    gates = {id(parameter): parameter.numel() for parameter in network.gate_parameters()}
    every = {id(parameter): parameter.numel() for parameter in network.parameters()}
    return GateWeights(sum(gates.values()), sum(n for key, n in every.items() if key not in gates))
