"""Ways in which a network comes down to its budget: what happens beside the steps in which its weights learn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from convgate.finetuning.batches import Batches
from convgate.finetuning.budget import Budget
from convgate.finetuning.closing import Closing
from convgate.finetuning.judge import Judgement
from convgate.finetuning.settings import Settings
from convgate.gated import GatedNetwork
from convgate.gating import Decisions

__all__ = ["MANY", "WHOLE", "Descent", "Given", "share_of"]

WHOLE = 0.99
# A network that spends at least this share of the dense MACs has closed nothing yet.
MANY = 100
# With fewer units each is so large a part of the MACs that an order would leave gaps between budgets.


@dataclass(frozen=True)
class Given:
    """What a descent is given. `seconds` is how long training takes in all, where that is what it goes by."""

    network: GatedNetwork
    teacher: nn.Module
    data: Batches
    budget: Budget
    settings: Settings
    seconds: float | None
    seed: int
    say: Callable[[str], None]


def share_of(network: GatedNetwork, decisions: Decisions) -> float:
    """The mean share of the dense MACs that decisions spend."""
    return network.cost(decisions.detach()).ratio.float().mean().item()


class Descent(Protocol):
    """How a network comes down to its budget."""

    @property
    def closing(self) -> Closing | None:
        """What closes units for good, if that is how it goes."""

    def start(self, before: Judgement) -> None:
        """Before the first step of a run, whose network was judged; not where a run goes on."""

    def begin(self) -> None:
        """Before the first step, also of a run that goes on: what learns, and what is held."""

    def before_step(self, progress: float, elapsed: float) -> None:
        """Before a step, when so much of the training, and so many seconds of it, are over."""

    def rate(self) -> float:
        """A share of the weights' learning rate."""
        ...

    def term(self, decisions: Decisions, loss: Tensor, progress: float) -> tuple[Tensor, float, float]:
        """(what is added to the loss, the share of the MACs that is spent, the share that is due)."""
        ...

    def finish(self) -> None:
        """After the last step: the budget is met, and gates decide as in evaluation."""

    def curve(self, after: Judgement) -> list[Judgement]:
        """What stays at several budgets, with what is left in the end."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold, beside the network and its budget."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the network and the budget have what they had."""
