"""A network's kinds of gates and a program's: the one place where they meet."""

from convgate.engine.program import GateKind
from convgate.gating import kinds

__all__ = ["NATIVE_KINDS", "native_kind"]

NATIVE_KINDS: dict[type[kinds.GateKind], GateKind] = {
    kinds.Tiles: GateKind.SPATIAL,
    kinds.ChannelGroups: GateKind.CHANNEL,
    kinds.Activations: GateKind.ACTIVATION,
}
"""Kind of a network's gate -> kind of a program's."""


def native_kind(kind: kinds.GateKind) -> GateKind | None:
    """The program's kind for a network's gate; None where the engine has none."""
    return NATIVE_KINDS.get(type(kind))
