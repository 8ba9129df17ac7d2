import pytest
import torch

import convgate
from convgate.analysis import cost_maps
from convgate.errors import InputError
from convgate.gating import Decision, Decisions, Tiles
from convgate.models import create


def random_decisions(network, n, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Decisions(
        (g.name, Decision(g.kind, (torch.rand(n, *g.shape, generator=draw) < 0.6).float())) for g in network.plan.gates
    )


def gated(height, width, **options):
    return convgate.gate(create("cifar_resnet8"), convgate.DualGating(**options), torch.zeros(1, 3, height, width))


@pytest.fixture(scope="module")
def uneven():
    """Maps of 30 x 26, 15 x 13 and 8 x 7 positions: tiles of unequal size, and no side divides the one before it."""
    return gated(30, 26, tile=4)


@pytest.mark.parametrize("size", [None, (30, 26), (8, 7), (5, 40), (61, 1)])
def test_a_map_sums_to_what_the_image_cost_without_the_gates(uneven, size):
    decisions = random_decisions(uneven, 5)
    maps = cost_maps(uneven, decisions, size)
    assert maps.dtype == torch.float32
    assert maps.shape == (5, *(size or (30, 26)))
    expected = uneven.cost(decisions).macs - uneven.ledger.gate_macs
    torch.testing.assert_close(maps.double().sum((1, 2)), expected.double(), rtol=1e-6, atol=0)


def test_maps_sum_up_with_dilated_masks():
    net = gated(30, 26, tile=4, dilated=True)
    decisions = random_decisions(net, 3)
    expected = net.cost(decisions).macs - net.ledger.gate_macs
    torch.testing.assert_close(cost_maps(net, decisions).double().sum((1, 2)), expected.double(), rtol=1e-6, atol=0)


def test_maps_sum_up_with_channel_gates_alone_and_with_all_gates_closed(uneven):
    channels = gated(16, 16, spatial=False)
    decisions = random_decisions(channels, 3)
    maps = cost_maps(channels, decisions)
    expected = (channels.cost(decisions).macs - channels.ledger.gate_macs).float()
    torch.testing.assert_close(maps, (expected / 256).view(3, 1, 1).expand(3, 16, 16), rtol=1e-6, atol=0)
    closed = uneven.closed_decisions(1)
    fixed = sum(layer.macs for layer in uneven.ledger.layers if not layer.gated)
    torch.testing.assert_close(cost_maps(uneven, closed), torch.full((1, 30, 26), fixed / (30 * 26)), rtol=1e-6, atol=0)


def test_macs_lie_where_tiles_are_open():
    network = gated(16, 16, tile={16: 8, 8: 4, 4: 2})
    gate = "layer1.0.spatial"
    mask = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    decisions = Decisions({**network.open_decisions(1), gate: Decision(Tiles(1), mask)})
    everything = cost_maps(network, network.open_decisions(1))
    saved = everything - cost_maps(network, decisions)
    block = sum(c.macs for c in network.ledger.layers if c.positions == gate)
    expected = torch.full((1, 16, 16), block / 256)
    expected[:, :8, 8:] = 0
    assert block > 0
    torch.testing.assert_close(saved, expected, rtol=1e-5, atol=1e-3)


def test_a_size_below_one_pixel_and_foreign_decisions_are_refused(uneven):
    decisions = uneven.open_decisions(1)
    with pytest.raises(InputError, match="at least 1 pixel"):
        cost_maps(uneven, decisions, (0, 8))
    with pytest.raises(InputError, match="another network"):
        cost_maps(uneven, decisions.of_kind(Tiles))
