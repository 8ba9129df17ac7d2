"""What closing costs: as it was foretold where nothing was measured, as it was measured where it was."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from convgate import DualGating, gate
from convgate.finetuning.closing.closing import Closing
from convgate.finetuning.closing.costs import Costs
from convgate.finetuning.closing.order import Sequence
from convgate.finetuning.closing.reconstruct import masks_of
from convgate.models import create


@pytest.fixture
def made(randomise):
    torch.manual_seed(0)
    images = torch.randn(32, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=16), images).eval()
    net = gate(model, DualGating(masks="equal", where="everywhere"), images[:1]).eval()
    return net, copy.deepcopy(net), list(images.split(8))


def test_costs_add_up_to_the_divergence_that_was_measured(made):
    net, whole, batches = made
    closing = Closing(net, whole)
    found = {}

    def measured(layers, sequences, is_open, images):
        Costs.measure(closing.costs, layers, sequences, is_open, images)
        found.update(layers=layers, sequences=sequences, images=torch.cat(list(images)))

    closing.costs.measure = measured
    closing._sequences(batches)
    layer = found["layers"][0]
    name, units = layer.gate.gate, layer.gate.units
    sequence = found["sequences"][name]
    is_open = torch.ones(units, dtype=torch.bool)
    is_open[list(sequence.units[: units // 2])] = False
    foretold = sequence.costs[: units // 2]
    bounds = [round(share * units) for share in (0, 1 / 16, 1 / 4, 1 / 2)]
    told = sum(
        sum(foretold[a:b]) * factor[1]
        for (a, b), factor in zip(pairwise(bounds), closing.costs.factors[name], strict=True)
    )
    x = found["images"]
    with torch.no_grad():
        theirs = whole(x).log_softmax(1)
        layer.make_up(net, ~is_open, is_open)
        given = masks_of(net, {name: is_open}, len(x), (16, 16))
        ours = net(x, given=given).log_softmax(1)
    assert told == pytest.approx(
        float(F.kl_div(ours, theirs, reduction="batchmean", log_target=True)), rel=0.05
    )  # it is measured in bfloat16


def test_layers_are_as_they_were_after_measuring(made):
    net, whole, batches = made
    before = copy.deepcopy(net.state_dict())
    Closing(net, whole)._sequences(batches)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_corrected_costs_never_fall(made):
    net, whole, _ = made
    costs = Costs(net, whole)
    costs.factors = {"a": [(1, 1.0), (4, 3.0), (8, 0.5)]}
    sequence = Sequence(tuple(range(15)), tuple(0.1 * (n + 1) for n in range(15)))
    found = costs.corrected("a", sequence, torch.ones(16, dtype=torch.bool)).costs
    assert found[0] == pytest.approx(0.1)  # the first of sixteen units: the first factor
    assert found[1] == pytest.approx(0.6)  # the second: the second's
    assert found[3] == pytest.approx(1.2)
    assert found[4:] == pytest.approx([1.2] * 11)  # half of what is foretold would be less


def test_factors_belong_to_places_in_the_gate(made):
    """Of a gate that has closed a quarter of its units, the next is in the part behind the quarter."""
    net, whole, _ = made
    costs = Costs(net, whole)
    costs.factors = {"a": [(1, 1.0), (4, 1.0), (8, 5.0)]}
    is_open = torch.arange(16) >= 4
    assert costs.corrected("a", Sequence((8,), (0.1,)), is_open).costs == pytest.approx((0.5,))


@pytest.mark.parametrize("units", [2, 3, 5, 6, 8, 40])
def test_each_unit_has_the_factor_that_it_was_measured_with(made, units):
    """Shares of a few units are whole units: the first that was measured is the first that is looked up."""
    net, whole, _ = made
    costs = Costs(net, whole)
    numbers = sorted({max(round(share * units), 1) for share in (1 / 16, 1 / 4, 1 / 2)})
    costs.factors = {"a": [(number, 10.0**place) for place, number in enumerate(numbers)]}
    sequence = Sequence(tuple(range(units)), (1.0,) * units)
    found = costs.corrected("a", sequence, torch.ones(units, dtype=torch.bool)).costs
    for place, number in enumerate(numbers):
        assert found[number - 1] == 10.0**place
