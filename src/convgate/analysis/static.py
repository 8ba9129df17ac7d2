"""What of a gated network is dynamic: it is compared with itself, each unit fixed at what it decides for most images.

Where the two are equally accurate at the same MACs, gating did no more than pruning does.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from convgate.analysis.census import Census
from convgate.analysis.evaluation import evaluate
from convgate.analysis.spending import Spending
from convgate.gated import FixedNetwork, GatedNetwork
from convgate.gating import Decisions
from convgate.reading.modes import evaluating

__all__ = ["StaticFigures", "compare_with_static", "majority_masks"]

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class StaticFigures:
    """The network with its majority masks, on the images that the gated one was measured on.

    Attributes:
        accuracy: in [0, 1].
        macs_ratio: share of the dense MACs; gates are not computed and not counted.
        changing: the share of all gates' units that are open for some of the images and closed for others.
        images: how many (training) images the majorities are of.

    """

    accuracy: float
    macs_ratio: float
    changing: float
    images: int


@torch.no_grad()
def majority_masks(
    network: GatedNetwork, batches: Batches, *, prepare: Callable[[Tensor], Tensor] = lambda images: images
) -> tuple[Decisions, int]:
    """(masks for one image: each unit open if it is for more than half of the images; how many images there were).

    Args:
        network: all images must have one size.
        batches: images as `prepare` takes them, labels (not looked at); of training, not those to report on.
        prepare: what turns a batch's images into the network's input, e.g. normalisation.

    Raises:
        InputError: there are no batches, or their images are of several sizes.

    """
    device = next(network.parameters()).device
    counted = Census()
    with evaluating(network):
        for images, _ in batches:
            counted.add(network.decide(prepare(images.to(device)))[1])
    return counted.majority(), counted.images


def compare_with_static(
    network: GatedNetwork,
    spending: Spending,
    training: Batches,
    test: Batches,
    *,
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
) -> StaticFigures:
    """What is left of a gated network when its units are fixed at their majority over `training`, on `test`.

    `spending` is what the gated network spent on `test`; see `evaluate`. The network's mode is restored.
    """
    masks, images = majority_masks(network, training, prepare=prepare)
    fixed = evaluate(FixedNetwork(network, masks), test, prepare=prepare)
    assert fixed.spending is not None
    return StaticFigures(fixed.accuracy, fixed.spending.ratio, spending.changing, images)
