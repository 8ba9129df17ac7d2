"""What convgate adds to a model: one module that holds the gates, what they share, and the norms of base paths."""

from collections.abc import Iterator, Sequence

from torch import nn

from convgate.gating import Gate

__all__ = ["GATES", "OURS", "PATHS", "TRUNK", "GateSet"]

OURS = "convgate"
"""The one name that a gated network adds to its model's: the child that holds a `GateSet`."""

GATES = f"{OURS}.gates"
"""Where a gated network keeps its gates, by name."""

PATHS = f"{OURS}.paths"
"""Where it keeps the batch norms of base paths, by convolution."""

TRUNK = f"{OURS}.trunk"
"""Where it keeps the sub-network that its gates share; also what a gate reads that reads it (see `Method.trunk`)."""


class GateSet(nn.Module):
    """The gates of a network by name, the trunk that they share (None if there is none), and base paths' norms.

    A gate's parameters are `gates.<name>.*`, a base path's `paths.<convolution>.*`, the trunk's `trunk.*`.
    """

    def __init__(self, names: Sequence[str], trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.names = tuple(names)
        self.gates = nn.Module()
        self.trunk = trunk
        self.paths = nn.Module()

    def add_gate(self, name: str, gate: Gate) -> None:
        """Put a gate in its place."""
        _nest(self.gates, name, gate)

    def add_path(self, name: str, layer: nn.Module) -> None:
        """Put a layer of a base path in its place."""
        _nest(self.paths, name, layer)

    def named_gates(self) -> Iterator[tuple[str, Gate]]:
        """(name, gate), in the plan's order."""
        for name in self.names:
            gate = self.gates.get_submodule(name)
            assert isinstance(gate, Gate)
            yield name, gate

    def gate_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the gates and of the trunk; not those of base paths, which compute features."""
        yield from self.gates.parameters()
        if self.trunk is not None:
            yield from self.trunk.parameters()


def _nest(root: nn.Module, path: str, leaf: nn.Module) -> None:
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, leaf)
