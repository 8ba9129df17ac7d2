"""Test images with what was said of them and what they cost."""

from dataclasses import dataclass

import torch
from torch import Tensor

from convgate.analysis.cost_maps import cost_maps
from convgate.analysis.evaluation import Evaluation, Spending
from convgate.analysis.pictures import image_uri, map_uri
from convgate.data import ImageSet
from convgate.gated import GatedNetwork

__all__ = ["Exhibit", "Gallery", "gallery"]


@dataclass(frozen=True)
class Exhibit:
    """One test image: its picture (data URI), its class and the predicted one, its share of the dense MACs."""

    picture: str
    label: str
    prediction: str
    right: bool
    share: float
    cost_map: str | None = None


@dataclass(frozen=True)
class Gallery:
    """The images that the report shows.

    `mapped` are spread evenly from the cheapest to the dearest and have cost maps, all coloured from 0 to `greatest`,
    the MACs of a pixel as a share of what the ungated network spends per pixel on average.
    """

    mapped: list[Exhibit]
    greatest: float
    cheapest: list[Exhibit]
    dearest: list[Exhibit]


def gallery(
    network: GatedNetwork, gated: Evaluation, spending: Spending, images: ImageSet, *, mapped: int, extremes: int
) -> Gallery:
    """`mapped` images with cost maps, and `extremes` of the cheapest and of the dearest; fewer of a small set."""
    order = spending.macs.argsort(stable=True)
    chosen = order[torch.linspace(0, len(order) - 1, min(mapped, len(order))).round().long()]
    height, width = images.images.shape[2:]
    maps = cost_maps(network, spending.decisions.select(chosen), (height, width))
    maps = maps / (spending.dense / (height * width))
    greatest = float(maps.max())
    return Gallery(
        mapped=[
            _exhibit(int(i), gated, spending, images, map_uri(values, greatest))
            for i, values in zip(chosen, maps, strict=True)
        ],
        greatest=greatest,
        cheapest=[_exhibit(int(i), gated, spending, images) for i in order[:extremes]],
        dearest=[_exhibit(int(i), gated, spending, images) for i in _last(order, extremes)],
    )


def _last(order: Tensor, n: int) -> Tensor:
    """The last `n`, the very last first."""
    return order.flip(0)[:n]


def _exhibit(i: int, gated: Evaluation, spending: Spending, images: ImageSet, cost_map: str | None = None) -> Exhibit:
    label, prediction = int(gated.labels[i]), int(gated.predictions[i])
    return Exhibit(
        picture=image_uri(images.images[i]),
        label=images.classes[label],
        # An output without a class of its own: possible where the model has more outputs than the data has classes.
        prediction=images.classes[prediction] if prediction < len(images.classes) else f"output {prediction}",
        right=label == prediction,
        share=int(spending.macs[i]) / spending.dense,
        cost_map=cost_map,
    )
