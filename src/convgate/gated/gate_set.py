"""What convgate adds to a model: one module that holds the gates, what they share, and the norms of base paths."""

from collections.abc import Container, Iterator, Sequence

from torch import nn

from convgate.errors import InputError
from convgate.gating import Gate

__all__ = ["GATES", "OURS", "PATHS", "TRUNK", "GateSet", "free_name", "place_in"]

OURS = "convgate"
"""What graphs and files call a network's `GateSet`; also the attribute that holds it."""

_NAMES = ("gates", OURS)
# The child that holds it has the first of these names that the model does not use.

GATES = f"{OURS}.gates"
"""Where a graph finds the gates, by name."""

PATHS = f"{OURS}.paths"
"""Where it finds the batch norms of base paths, by convolution, and fill paths, by site."""

TRUNK = f"{OURS}.trunk"
"""Where it finds the sub-network that the gates share; also what a gate reads that reads it (see `Method.trunk`)."""


class GateSet(nn.Module):
    """The gates of a network by name, the trunk that they share (None if there is none), and cheaper paths' layers.

    A gate's parameters are `gates.<name>.*`, those of a base path's norm `paths.<convolution>.*`, of a fill path
    `paths.<site>.*`, and the trunk's `trunk.*`.
    """

    def __init__(self, names: Sequence[str], trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.names = tuple(names)
        self.gates = nn.Module()
        self.trunk = trunk
        self.paths = nn.Module()

    @classmethod
    def of(cls, given: nn.Module) -> "GateSet":
        """The gates that are given, or those of the gated network that is: training loops may hand over either.

        Raises `InputError` for anything else.
        """
        found = given if isinstance(given, cls) else getattr(given, OURS, None)
        if not isinstance(found, cls):
            raise InputError(f"{type(given).__name__} has no gates; give a gated network's, net.convgate")
        return found

    def add_gate(self, name: str, gate: Gate) -> None:
        """Put a gate in its place."""
        _nest(self.gates, name, gate)

    def add_path(self, name: str, layer: nn.Module) -> None:
        """Put a layer of a base path, or a fill path, in its place."""
        _nest(self.paths, name, layer)

    def named_gates(self) -> Iterator[tuple[str, Gate]]:
        """(name, gate), in the plan's order."""
        for name in self.names:
            gate = self.gates.get_submodule(name)
            assert isinstance(gate, Gate)
            yield name, gate

    def gate_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the gates and of the trunk; not those of base and fill paths, which compute features."""
        yield from self.gates.parameters()
        if self.trunk is not None:
            yield from self.trunk.parameters()


def free_name(members: Container[str]) -> str:
    """What the child that holds the `GateSet` is called, in a network whose model has these members.

    >>> free_name({"conv1", "fc"})
    'gates'
    >>> free_name({"conv1", "gates"})
    'convgate'
    """
    return next(name for name in _NAMES if name not in members)


def place_in(network: nn.Module) -> str:
    """The child of a gated network that holds its `GateSet`: the first part of its keys in the state dict."""
    return next(name for name, child in network._modules.items() if isinstance(child, GateSet))


def _nest(root: nn.Module, path: str, leaf: nn.Module) -> None:
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, leaf)
