"""One method's gates with other methods' penalties on top, e.g. batch shaping of dual gating's channel gates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from convgate.cost import Ledger
from convgate.errors import InputError
from convgate.gated.gate_set import GateSet
from convgate.gated.method import Method
from convgate.gated.plan import GateSpec, Site
from convgate.gating import Decisions, Gate, GateKind, LossTerms, Progress
from convgate.methods.batch_shaping import BatchShaping
from convgate.methods.dual_gating import DualGating
from convgate.methods.registry import create_method, register_method
from convgate.reading.structure import Rejected
from convgate.reading.trace import Trace

__all__ = ["Combined"]


@register_method
@dataclass(frozen=True)
class Combined(Method):
    """Gates, and what they are trained for, from different methods.

    `gates` says where gates are placed and how they decide. The loss terms are its own and those of `penalties`; terms
    of the same name are added. Both are methods, or their descriptions as `Method.describe` returns them: {"name": ..,
    "options": {..}}.

    Args:
        gates: the method whose gates are used.
        penalties: the methods whose terms are added.

    """

    gates: Method | Mapping[str, Any] = field(default_factory=DualGating)
    penalties: Sequence[Method | Mapping[str, Any]] = field(default_factory=lambda: (BatchShaping(),))

    def __post_init__(self) -> None:
        if not isinstance(self.penalties, tuple | list) or not self.penalties:
            raise InputError(f"Combined(penalties={self.penalties!r}): penalties is a list of at least one method")
        object.__setattr__(self, "gates", _method("gates", self.gates))
        object.__setattr__(self, "penalties", tuple(_method("penalties", given) for given in self.penalties))
        super().__post_init__()
        gates, *penalties = self.parts
        for penalty in penalties:
            if not set(penalty.penalises) & set(gates.kinds):
                raise InputError(
                    f"Combined(gates={type(gates).__name__}, penalties=[{type(penalty).__name__}]): the terms of "
                    f"{type(penalty).__name__} are about {_words(penalty.penalises)} gates, and {type(gates).__name__} "
                    f"makes {_words(gates.kinds)} gates; combine methods that fit"
                )

    @property
    def parts(self) -> tuple[Method, ...]:
        """The method whose gates are used, and the others."""
        return tuple(part for part in (self.gates, *self.penalties) if isinstance(part, Method))

    @property
    def kinds(self) -> tuple[type[GateKind], ...]:
        return self.parts[0].kinds

    def with_budget(self, share: float) -> "Combined":
        gates, *penalties = (part.with_budget(share) for part in self.parts)
        return replace(self, gates=gates, penalties=tuple(penalties))

    def sites(self, trace: Trace) -> tuple[list[Site], list[Rejected]]:
        return self.parts[0].sites(trace)

    def gate(self, spec: GateSpec) -> Gate:
        return self.parts[0].gate(spec)

    def trunk(self, example: tuple[int, ...]) -> nn.Module | None:
        return self.parts[0].trunk(example)

    def schedule(self, gates: GateSet, progress: float) -> None:
        self.parts[0].schedule(gates, progress)

    def load_pretrained(self, gates: GateSet, state: Mapping[str, Tensor]) -> None:
        self.parts[0].load_pretrained(gates, state)

    def terms(self, decisions: Decisions, gates: GateSet, ledger: Ledger, progress: Progress) -> LossTerms:
        return LossTerms(
            type(self).__name__, _added(part.terms(decisions, gates, ledger, progress) for part in self.parts)
        )

    def describe(self) -> dict[str, Any]:
        gates, *penalties = (part.describe() for part in self.parts)
        return {"name": type(self).__name__, "options": {"gates": gates, "penalties": penalties}}


def _added(groups: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = {}
    for group in groups:
        for name, term in group.items():
            terms[name] = terms[name] + term if name in terms else term
    return terms


def _words(kinds: Iterable[type[GateKind]]) -> str:
    return " and ".join(kind.word for kind in kinds)


def _method(option: str, given: Any) -> Method:
    if isinstance(given, Method):
        return given
    if isinstance(given, Mapping) and isinstance(given.get("name"), str):
        return create_method(given["name"], given.get("options"))
    raise InputError(f"Combined({option}={given!r}): give a method, or its name and options: {{name: .., options: ..}}")
