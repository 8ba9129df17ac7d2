"""The convolutional part of a model that has Python around its convolutions, as one module from images to tensors.

A detector prepares lists of images, calls its backbone and its heads, and decodes what they return. The part is what it
calls: a chain of its sub-modules (`Stage`), each given what those before it returned. It can be read as any CNN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["IMAGES", "Leaf", "Part", "Stage"]


@dataclass(frozen=True)
class Leaf:
    """The tensor number `leaf` in what stage number `stage` returned; stage -1 is the images."""

    stage: int
    leaf: int


IMAGES = Leaf(-1, 0)


@dataclass(frozen=True)
class Stage:
    """One call of the sub-module `name`: its arguments, with a `Leaf` for each tensor, and its results' structure."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    returns: pytree.TreeSpec

    @property
    def reads(self) -> tuple[Leaf, ...]:
        """The tensors among the arguments, in order."""
        return tuple(leaf for leaf in pytree.tree_leaves((self.args, dict(self.kwargs))) if isinstance(leaf, Leaf))


class Part(nn.Module):
    """Sub-modules of a model under their own names, called one after another. Returns what each returned, in a tuple.

    Args:
        model: the model that they belong to; they are shared with it.
        stages: the calls, in order.
        outside: the other sub-modules with weights that the model calls.

    """

    def __init__(self, model: nn.Module, stages: Sequence[Stage], outside: Sequence[str] = ()) -> None:
        super().__init__()
        self.stages, self.outside = tuple(stages), tuple(outside)
        for name in self.names:
            _put(self, name, model.get_submodule(name))
        own = {id(module) for name in self.names for module in model.get_submodule(name).modules()}
        for module in self.modules():
            if id(module) not in own:
                module.training = model.training

    @property
    def names(self) -> tuple[str, ...]:
        """The sub-modules, in the order of their first calls."""
        return tuple(dict.fromkeys(stage.name for stage in self.stages))

    def forward(self, images: Tensor) -> tuple[Any, ...]:
        """What the stages return for `images` [N, C, H, W]."""
        leaves: dict[Leaf, Any] = {IMAGES: images}
        returned = []
        for number, stage in enumerate(self.stages):
            args, kwargs = pytree.tree_map(
                lambda value: leaves[value] if isinstance(value, Leaf) else value, (stage.args, dict(stage.kwargs))
            )
            result = self.get_submodule(stage.name)(*args, **kwargs)
            returned.append(result)
            leaves.update({Leaf(number, index): leaf for index, leaf in enumerate(pytree.tree_leaves(result))})
        return tuple(returned)


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    *path, last = name.split(".")
    for step in path:
        if step not in root._modules:
            root._modules[step] = nn.Module()
        child = root._modules[step]
        assert child is not None
        root = child
    root._modules[last] = module
