import pytest
import torch

import convgate
from convgate.analysis import Spending, census, site_costs
from convgate.models import create


def test_site_costs_account_for_everything_once_in_network_order():
    network = convgate.gate(create("cifar_resnet8"), convgate.DualGating(), torch.zeros(1, 3, 16, 16))
    decisions = network.closed_decisions(2)
    cost = network.cost(decisions)
    means = {name: float(macs.double().mean()) for name, macs in cost.by_layer.items()}
    costs = site_costs(network.plan, Spending(cost.macs, cost.dense, means, census(decisions)))
    assert [c.name for c in costs] == ["layer1.0", "layer2.0", "layer3.0", "all other layers", "gates"]
    assert sum(c.dense for c in costs) == network.ledger.dense
    assert sum(c.gated for c in costs) == pytest.approx(float(cost.macs[0]))
    # Closed branches cost nothing, and what lies outside of them is not gated.
    assert [c.gated for c in costs[:3]] == [0, 0, 0]
    assert costs[3].gated == costs[3].dense > 0
