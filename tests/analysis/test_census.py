import torch

from convgate.analysis import GateCensus, census
from convgate.gating import ChannelGroups, Decision, Decisions, Tiles


def test_census_counts_units_that_are_always_open_never_open_and_sometimes():
    tiles = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]], [[[1.0, 0.0], [0.0, 1.0]]]])
    groups = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).view(3, 3, 1, 1)
    found = census(Decisions({"a.spatial": Decision(Tiles(1), tiles), "a.channel": Decision(ChannelGroups(3), groups)}))
    assert list(found) == ["a.spatial", "a.channel"]
    assert found["a.spatial"] == GateCensus(
        kind=Tiles(1), units=4, always_on=1, always_off=1, input_dependent=2, density=0.5
    )
    assert found["a.channel"] == GateCensus(
        kind=ChannelGroups(3), units=3, always_on=1, always_off=2, input_dependent=0, density=1 / 3
    )


def test_census_takes_masks_that_a_gradient_flows_through():
    mask = torch.ones(2, 1, 3, 3, requires_grad=True)
    assert census(Decisions({"g": Decision(Tiles(1), mask)}))["g"].always_on == 9
