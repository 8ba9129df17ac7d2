"""Test images with what was said of them and what they cost."""

from dataclasses import dataclass

import torch
from torch import Tensor

from convgate.analysis.cost_maps import cost_maps
from convgate.analysis.evaluation import Evaluation
from convgate.analysis.pictures import image_uri, map_uri
from convgate.analysis.spending import Spending
from convgate.data import ImageSet
from convgate.gated import GatedNetwork
from convgate.reading.modes import evaluating

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

    `mapped` are spread evenly from the cheapest to the costliest and have cost maps, all coloured from 0 to `greatest`,
    the MACs of a pixel as a share of what the ungated network spends per pixel on average.
    """

    mapped: list[Exhibit]
    greatest: float
    cheapest: list[Exhibit]
    costliest: list[Exhibit]


def gallery(
    network: GatedNetwork, gated: Evaluation, spending: Spending, images: ImageSet, *, mapped: int, extremes: int
) -> Gallery:
    """`mapped` images with cost maps, and `extremes` of the cheapest and of the costliest; fewer of a small set."""
    order = spending.macs.argsort(stable=True)
    chosen = order[torch.linspace(0, len(order) - 1, min(mapped, len(order))).round().long()]
    cheapest, costliest = order[:extremes], order.flip(0)[:extremes]
    shown = images.at(torch.cat([chosen, cheapest, costliest]))
    height, width = shown.shape[2:]
    maps = _maps(network, images.prepared(shown[: len(chosen)]), (height, width)) / spending.dense
    maps *= height * width
    greatest = float(maps.max())
    cost_map = [map_uri(values, greatest) for values in maps]
    exhibits = [
        _exhibit(int(i), picture, gated, spending, images.classes, cost_map[at] if at < len(chosen) else None)
        for at, (i, picture) in enumerate(zip(torch.cat([chosen, cheapest, costliest]), shown, strict=True))
    ]
    a, b = len(chosen), len(chosen) + len(cheapest)
    return Gallery(exhibits[:a], greatest, exhibits[a:b], exhibits[b:])


@torch.no_grad()
def _maps(network: GatedNetwork, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Cost maps of what the network decides for these images, on the CPU."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with evaluating(network):
        _, decisions = network.decide(x.to(device))
    return cost_maps(network, decisions, size).cpu()


def _exhibit(
    i: int,
    picture: Tensor,
    gated: Evaluation,
    spending: Spending,
    classes: tuple[str, ...],
    cost_map: str | None,
) -> Exhibit:
    label, prediction = int(gated.labels[i]), int(gated.predictions[i])
    return Exhibit(
        picture=image_uri(picture),
        label=classes[label],
        # An output that stands for no class: possible where the model has more outputs than the data has classes.
        prediction=classes[prediction] if prediction < len(classes) else f"output {prediction}",
        right=label == prediction,
        share=int(spending.macs[i]) / spending.dense,
        cost_map=cost_map,
    )
