"""What a graph's tensors are: their shapes, which of them share memory, and which nodes write in place."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from convgate.reading.values import writable

__all__ = ["Facts", "find_facts", "without_logs"]

_BATCH = 13
"""An unlikely number, so that no other dimension is taken for the batch."""


@dataclass
class Facts:
    """Of each node, by name.

    `shapes` are those of single tensors of floats whose first dimension is the batch, without it. `memory` are the
    storages that a node's result lies in, `changed` those that it wrote to in place.
    """

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    memory: dict[str, frozenset[int]] = field(default_factory=dict)
    changed: dict[str, frozenset[int]] = field(default_factory=dict)

    def sharing(self, names: Iterator[str] | set[str]) -> set[str]:
        """The nodes whose results share memory with those of `names`, these included."""
        storages = {storage for name in names for storage in self.memory.get(name, ())}
        return {name for name, own in self.memory.items() if own & storages}


def find_facts(root: nn.Module, graph: fx.Graph, image: tuple[int, ...]) -> Facts:
    """Run `graph` on images [N, *image]: on tensors without data, or, where its code looks at data, on zeros."""
    parameter = next(root.parameters(), torch.empty(0))

    def read(batch: int) -> Facts:
        images = torch.zeros(batch, *image, device=parameter.device, dtype=parameter.dtype)
        return _Reader(root, graph, batch).of(images)

    with torch.no_grad():
        for batch in (_BATCH, 1):
            try:
                with without_logs(), FakeTensorMode(allow_non_fake_inputs=True):
                    return read(batch)
            except Exception:  # noqa: BLE001 -- the model's code may raise anything without data, or at this batch
                continue
        try:
            return read(2)
        except Exception:  # noqa: BLE001 -- it takes one image alone
            return read(1)


@contextmanager
def without_logs() -> Iterator[None]:
    """PyTorch logs what fails without data; here it is tried in another way then."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


class _Reader(fx.Interpreter):
    def __init__(self, root: nn.Module, graph: fx.Graph, batch: int) -> None:
        super().__init__(root, garbage_collect_values=False, graph=graph)  # kept: storages are told by their address
        self.batch = batch
        self.facts = Facts()

    def of(self, images: Tensor) -> Facts:
        self.run(images)
        return self.facts

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[Any, Any]:
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return writable(args), writable(kwargs)

    def run_node(self, n: fx.Node) -> Any:
        read = [t for source in n.all_input_nodes for t in _tensors(self.env.get(source))]
        versions = [t._version for t in read]
        output = super().run_node(n)
        changed = (t for t, version in zip(read, versions, strict=True) if t._version != version)
        facts = self.facts
        facts.changed[n.name] = frozenset(_storage(t) for t in changed)
        facts.memory[n.name] = frozenset(_storage(t) for t in _tensors(output))
        if isinstance(output, Tensor) and output.is_floating_point() and output.dim() > 1:
            batch, *rest = output.shape
            if batch == self.batch and all(isinstance(size, int) and size > 0 for size in rest):
                facts.shapes[n.name] = tuple(rest)
        return output


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
