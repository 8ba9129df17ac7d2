"""What decisions cost: in multiply-accumulates, or in milliseconds of an engine."""

from typing import Protocol

from convgate.errors import BudgetError, InputError
from convgate.gated import GatedModel, GatedNetwork
from convgate.gating import Decisions
from convgate.latency import LatencyModel

__all__ = ["Macs", "Milliseconds", "Price"]


class Price(Protocol):
    """A cost that the search brings to a share of the dense network's."""

    def total(self, decisions: Decisions) -> float:
        """What the samples of a batch cost together, as shares of what the dense network costs."""
        ...

    def check(self, budget: float) -> None:
        """Raise `BudgetError` for a share that no gates can come to."""
        ...

    def words(self, share: float) -> str:
        """A share in words: "43.1 % of the dense MACs"."""
        ...


class Macs:
    """Multiply-accumulates by the ledger, gates included, as shares of the dense network's."""

    def __init__(self, network: GatedNetwork | GatedModel) -> None:
        self.network = network

    def total(self, decisions: Decisions) -> float:
        """See `Price`."""
        cost = self.network.cost(decisions)
        return float(cost.macs.double().sum()) / cost.dense

    def check(self, budget: float) -> None:
        """See `Price`."""
        least = float(self.network.cost(self.network.closed_decisions(1)).ratio)
        if budget < least:
            raise BudgetError(
                f"{budget} of the dense MACs cannot be reached: with every gate closed {least:.4f} are spent, on "
                "layers that have no gate and on the gates themselves; ask for more, or gate more sites (net.plan "
                "lists them, and `convgate plan`)"
            )

    def words(self, share: float) -> str:
        """See `Price`."""
        return f"{100 * share:.2f} % of the dense MACs"


class Milliseconds:
    """Milliseconds of an engine by its latency model, as shares of what it takes with every gate open."""

    def __init__(self, network: GatedNetwork | GatedModel, model: LatencyModel) -> None:
        self.model, self.size = model, (network.plan.example[2], network.plan.example[3])
        self.least = float(model.milliseconds(network.closed_decisions(1).numpy())[0])
        self.most = float(model.milliseconds(network.open_decisions(1).numpy())[0])

    def total(self, decisions: Decisions) -> float:
        """See `Price`. Raises `InputError` for images of another size than the model is for."""
        if decisions.size not in (None, self.size):
            given, known = ("x".join(map(str, size)) for size in (decisions.size or (), self.size))
            raise InputError(f"images of {given}: the engine's times are known for {known}; give images of that size")
        return float(self.model.milliseconds(decisions.numpy()).sum()) / self.most

    def check(self, budget: float) -> None:
        """See `Price`."""
        asked = budget * self.most
        if not self.least <= asked <= self.most:
            threads = self.model.origin.threads
            where = f"on this machine with {threads} thread{'s' if threads > 1 else ''}"
            why = (
                "with every gate closed it takes longer; ask for more, use more threads or bf16, or gate more sites"
                if asked < self.least
                else "with every gate open it takes less, so that nothing has to close"
            )
            raise BudgetError(
                f"{asked:.3g} ms cannot be reached: {where} the engine takes from {self.least:.3g} ms (every gate "
                f"closed) to {self.most:.3g} ms (every gate open); {why}"
            )

    def words(self, share: float) -> str:
        """See `Price`."""
        return f"{share * self.most:.3f} ms"
