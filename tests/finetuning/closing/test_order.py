"""Units close in the order of what the others cannot make up for; the formulas are checked against least squares."""

import pytest
import torch

from convgate.finetuning.closing.order import RIDGES, best_ridge, closing_sequence, made_up_weights, regularised
from convgate.finetuning.closing.readers import Closable, Reader


def made(group=1, channels=6, rows=400, seed=0):
    torch.manual_seed(seed)
    x = torch.randn(rows, channels, dtype=torch.double) @ torch.randn(channels, channels, dtype=torch.double) + 0.3
    points = torch.cat([x, torch.ones(rows, 1, dtype=torch.double)], 1)
    weights = torch.randn(5, channels, 1, 1)
    gate = Closable("a", -(-channels // group), group, channels, (Reader("conv", "conv", None, takes_constants=True),))
    return gate, points, points.T @ points / rows, weights


@pytest.mark.parametrize(("group", "channels"), [(1, 6), (2, 12), (4, 10)])
def test_the_first_costs_are_those_of_least_squares(group, channels):
    """Against torch.linalg.lstsq of what the layer computes on what stays, for each unit in turn."""
    gate, points, moments, weights = made(group, channels)
    information = torch.ones(gate.units)
    tiny = 1e-9
    found = closing_sequence(gate, information, torch.ones(gate.units, dtype=torch.bool), moments, weights, ridge=tiny)
    matrix = weights[:, :, 0, 0].double()
    ratios = []
    for unit in range(gate.units):
        own = torch.arange(unit * group, min((unit + 1) * group, channels))
        rest = torch.tensor([c for c in range(points.shape[1]) if c not in own.tolist()])
        wanted = points[:, own] @ matrix[:, own].T
        by_others = points[:, rest] @ torch.linalg.lstsq(points[:, rest], wanted).solution
        ratios.append(float((wanted - by_others).square().sum() / wanted.square().sum()))
    assert found.units[0] == min(range(gate.units), key=ratios.__getitem__)
    assert found.costs[0] == pytest.approx(min(ratios) / 2, rel=1e-3)


def test_a_channel_that_another_foretells_costs_nothing():
    gate, points, _, weights = made()
    points[:, 2] = 3 * points[:, 4]
    moments = points.T @ points / len(points)
    information = torch.tensor([1.0, 1.0, 5.0, 1.0, 5.0, 1.0])
    found = closing_sequence(gate, information, torch.ones(6, dtype=torch.bool), moments, weights, ridge=1e-6)
    assert found.units[0] in (2, 4)
    assert found.costs[0] < 1e-4
    # The other of the two must stay for it.
    assert {2, 4} - {found.units[0]} != {found.units[1]}


def test_made_up_weights_do_what_least_squares_does():
    _, points, moments, weights = made()
    closed = torch.tensor([False, True, False, False, True, False])
    made_up, constant = made_up_weights(weights, moments, closed, ~closed, 1e-9)
    assert bool((made_up[:, closed] == 0).all())
    stays = torch.cat([~closed, torch.ones(1, dtype=torch.bool)])
    wanted = points[:, :-1] @ weights[:, :, 0, 0].double().T
    best = torch.linalg.lstsq(points[:, stays], wanted).solution
    ours = torch.cat([made_up[:, ~closed, 0, 0], constant[:, None]], 1).double()
    torch.testing.assert_close(ours, best.T, rtol=1e-4, atol=1e-4)


def test_the_ridge_is_small_where_there_is_much_to_learn_from_and_large_where_there_is_not():
    _, _, many, weights = made(channels=24, rows=4000)
    assert best_ridge(weights, many, many, torch.ones(24, dtype=torch.bool)) == min(RIDGES)
    torch.manual_seed(1)
    few, other = (torch.cat([torch.randn(n, 24), torch.ones(n, 1)], 1).double() for n in (12, 2000))
    moments = [x.T @ x / len(x) for x in (few, other)]
    assert best_ridge(weights, *moments, torch.ones(24, dtype=torch.bool)) == max(RIDGES)


def test_the_constant_has_no_ridge():
    _, _, moments, _ = made()
    assert regularised(moments, 0.5)[-1, -1] == moments[-1, -1]
    assert regularised(moments, 0.5)[0, 0] == pytest.approx(1.5 * float(moments[0, 0]))


def test_one_in_sixteen_stays_open():
    gate, _, moments, weights = made(channels=32)
    found = closing_sequence(gate, torch.ones(32), torch.ones(32, dtype=torch.bool), moments, weights)
    assert len(set(found.units)) == len(found.units) == 30
