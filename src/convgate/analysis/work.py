"""Where work was spent on an image: the image with what the network said of it, and the map of its MACs beside it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convgate.analysis.cost_maps import cost_maps
from convgate.analysis.pictures import colours
from convgate.gated import GatedModel, GatedNetwork
from convgate.reading.modes import evaluating

__all__ = ["beside", "work_on"]

_GAP = 8
_FADED = 0.35
# How much of the image shows through the map.


@torch.no_grad()
def work_on(network: GatedNetwork | GatedModel, x: Any, size: tuple[int, int]) -> tuple[Any, Tensor, float]:
    """(what the network answers, the share of the dense MACs per pixel, the share of all of them) for one image.

    Args:
        network: a gated network or detector.
        x: a batch of one image, as the network takes it.
        size: height and width of the image before it was prepared.

    Returns:
        The answer for the batch; float32 [*size], 1 where as much was computed as the dense network computes
        everywhere; and the share of the image's dense MACs, gates included.

    """
    with evaluating(network):
        answer, decisions = network.decide(x)
        cost = network.cost(decisions)
        inner = network.network if isinstance(network, GatedModel) else network
        # Per pixel of what the convolutions see, which a detector may have resized and padded.
        prepared = decisions.size or (inner.plan.example[2], inner.plan.example[3])
        spent = cost_maps(inner, decisions, prepared)[:1, None] * (prepared[0] * prepared[1] / cost.dense)
        height, width = _seen(network, x, size)
    found = F.interpolate(spent[..., :height, :width], size=size, mode="nearest")[0, 0]
    return answer, found, float(cost.ratio[0])


def _seen(network: GatedNetwork | GatedModel, x: Any, size: tuple[int, int]) -> tuple[int, int]:
    """The part of the prepared batch that is the image and not padding."""
    transform = getattr(network, "transform", None)
    if isinstance(network, GatedModel) and callable(transform):  # torchvision's detectors resize and pad
        height, width = transform(list(x))[0].image_sizes[0]
        return int(height), int(width)
    return size if isinstance(network, GatedModel) else (x.shape[2], x.shape[3])


def beside(picture: Any, image: Tensor, spent: Tensor) -> Any:
    """A picture (PIL) and, right of it, the map `spent` over its faded image, with a bar of its colours below.

    Args:
        picture: what is shown on the left, of the image's size.
        image: uint8 [3, H, W].
        spent: float [H, W], the share of the dense MACs per pixel.

    """
    from PIL import Image

    grey = image.float().mean(0, keepdim=True).permute(1, 2, 0)
    blended = (1 - _FADED) * colours(spent).float() + _FADED * grey
    height, width = spent.shape
    bar = colours(torch.linspace(0, 1, width).expand(_GAP, width))
    whole = Image.new("RGB", (2 * width + _GAP, height + 2 * _GAP), "white")
    whole.paste(picture, (0, 0))
    whole.paste(Image.fromarray(blended.round().byte().numpy()), (width + _GAP, 0))
    whole.paste(Image.fromarray(bar.numpy()), (width + _GAP, height + _GAP))
    return whole
