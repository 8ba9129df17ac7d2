"""What a graph to translate is, and what becomes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import fx, nn

from convgate.engine.lowering.draft import Draft, Symbol
from convgate.engine.lowering.facts import Facts, find_facts
from convgate.engine.outside import Outside

__all__ = ["Source", "Translation"]


@dataclass(frozen=True, eq=False)
class Source:
    """The graph to translate: in `root`, of images [N, *image].

    `layer_names` maps a node to its line of the ledger; `gate_specs` a gate's name to its `GateSpec`. `together` are
    sets of nodes that only have a native form together: the parts of one convolution.
    """

    root: nn.Module
    graph: fx.Graph
    image: tuple[int, ...]
    layer_names: Mapping[str, str]
    gate_specs: Mapping[str, Any] = field(default_factory=dict)
    together: tuple[frozenset[str], ...] = ()

    @cached_property
    def facts(self) -> Facts:
        """Found when first asked for: a network all of which has a native form needs none."""
        return find_facts(self.root, self.graph, self.image)


@dataclass
class Translation:
    """What became of a graph.

    `images` is the symbol of the network's input. `outputs` are the symbols, and the names of steps of PyTorch's, that
    the network returns, `returns` how they are arranged (see `Program.returns`). `missing` maps the nodes without a
    native form to the reason, where PyTorch was not allowed; `outside` is what it computes.
    """

    draft: Draft
    images: Symbol
    outputs: list[Symbol | str] = field(default_factory=list)
    returns: Any = None
    missing: dict[str, str] = field(default_factory=dict)
    outside: Outside = field(default_factory=Outside)
