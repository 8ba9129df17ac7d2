"""What a gating method is: a strategy for where gates sit, how they decide, and what training adds to the loss."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from convgate.cost import Ledger
from convgate.errors import InputError
from convgate.gated.gate_set import GateSet
from convgate.gated.options import check_options
from convgate.gated.plain import plain
from convgate.gated.plan import GateSpec, Site
from convgate.gating import KINDS, Decisions, Gate, GateKind, LossTerms, Progress
from convgate.reading.structure import Rejected
from convgate.reading.trace import Trace

__all__ = ["Ablation", "Method"]


@dataclass(frozen=True)
class Ablation:
    """A method without one of its parts, for the comparison that shows what the part is worth.

    `words` says in a sentence what it is, `options` are those that differ from the method's with which it is compared.
    """

    words: str
    options: Mapping[str, Any]


class Method(ABC):
    """A published way of gating. Subclasses are frozen dataclasses whose fields are the method's options.

    The network that a method builds knows nothing of the method's loss or budget: those come from `terms`, which the
    training loop adds to the task loss. `convgate.methods.register_method` makes a method known by its name.
    """

    former_options: ClassVar[frozenset[str]] = frozenset()
    """Options of earlier versions that the class still takes, so that old files and recipes load."""

    ablations: ClassVar[Mapping[str, Ablation]] = {}
    """By name, the controls to train beside a row of this method: `convgate train RECIPE@NAME`."""

    def __post_init__(self) -> None:
        """Check the options by the types of their fields. Raises `InputError`; see `convgate.gated.options`."""
        check_options(self)

    @abstractmethod
    def sites(self, trace: Trace) -> tuple[list[Site], list[Rejected]]:
        """Where this method gates the traced model, and what it leaves alone and why."""

    @abstractmethod
    def gate(self, spec: GateSpec) -> Gate:
        """A new, initialised gate for one of the planned places."""

    # -- what training adds ----------------------------------------------------------------------------------------

    @abstractmethod
    def terms(self, decisions: Decisions, gates: GateSet, ledger: Ledger, progress: Progress) -> LossTerms:
        """All that is added to the task loss, by name: a training loop calls this once per step.

        Args:
            decisions: of one training batch.
            gates: the network's, `net.convgate`; terms of their parameters are left out where it is empty.
            ledger: the network's, `net.ledger_for(decisions)`.
            progress: the share of the training done, in [0, 1): a number, or, where steps are recorded
                (`hardware.graphs`), a tensor with that number in it, which is not to be asked for: see
                `convgate.gating.ramp`.

        Raises:
            InputError: a name is given twice, or a term is not a scalar.

        """

    def penalty(self, decisions: Decisions, ledger: Ledger, progress: float) -> dict[str, Tensor]:
        """Those of `terms` that are about decisions, as a dict."""
        return dict(self.terms(decisions, GateSet(()), ledger, progress))

    def with_budget(self, share: float) -> "Method":
        """A method that trains to this share of the dense MACs; the method itself if its terms have no budget."""
        return self

    @property
    def kinds(self) -> tuple[type[GateKind], ...]:
        """The kinds of gates that it makes."""
        return KINDS

    @property
    def penalises(self) -> tuple[type[GateKind], ...]:
        """The kinds of gates that its terms are about; on a network that has none of these they cannot be used."""
        return KINDS

    def trunk(self, example: tuple[int, ...]) -> nn.Module | None:
        """A new sub-network that several gates share, for images of the example's shape; None if they share nothing.

        It reads the images, before the network does, and returns (features [N, F], a tuple that the estimators of the
        gates that read it get after the logits in training; empty in evaluation). Its MACs are spent on every sample.
        """
        return None

    def schedule(self, gates: GateSet, progress: float) -> None:
        """Update what changes in the gates during training; called before each step. Most methods need not do anything.

        `gates` are the network's, `net.convgate`; `progress` is the share of the training done, in [0, 1). What changes
        in each step is best kept in tensors: a compiled network is compiled anew for other numbers.
        """
        return

    def load_pretrained(self, gates: GateSet, state: Mapping[str, Tensor]) -> None:
        """Load weights of a part of the method that was trained on its own, in place, into `net.convgate`.

        Raises `InputError` where there is no such part, `CheckpointError` where the weights do not fit.
        """
        raise InputError(f"{type(self).__name__} has no part that is trained on its own; leave method.weights out")

    def describe(self) -> dict[str, Any]:
        """Name and options as plain data: {"name": .., "options": {..}}, for checkpoints and reports."""
        assert dataclasses.is_dataclass(self)
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"name": type(self).__name__, "options": plain(options)}
