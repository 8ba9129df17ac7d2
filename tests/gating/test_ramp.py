"""What changes evenly over a part of the training, by a number and by a tensor, alone and in each method's terms."""

import pytest
import torch

from convgate.gated import gate
from convgate.gating import ramp
from convgate.methods import BatchShaping, DualGating, create, list_methods
from convgate.models import create as create_model

SHARES = (0.0, 0.005, 0.1, 0.2, 0.5, 0.8, 0.99)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.2, 0.6), (0.0, 0.2), (0.5, 0.5), (0.0, 0.0)])
def test_a_tensor_rises_as_a_number_does(start, end):
    for share in SHARES:
        risen = ramp(torch.tensor(share, dtype=torch.float64), start, end)
        assert isinstance(risen, torch.Tensor)
        assert float(risen) == pytest.approx(ramp(share, start, end))


METHODS = [
    *(create(name, {}) for name in sorted(list_methods())),
    DualGating(counted="noise_free", budget_annealing=0.5, noise=0.8, temperature=2.0, final_temperature=0.3),
    DualGating(annealing=200.0),
    BatchShaping(shaping_end=0.5, l0_start=0.1, l0_end=0.1),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_terms_take_progress_in_a_tensor(method):
    network = gate(create_model("cifar_resnet8", width=4), method, torch.zeros(2, 3, 32, 32)).train()
    _, decisions = network.decide(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    for share in SHARES:
        expected = method.terms(decisions, network.convgate, network.ledger, share)
        found = method.terms(decisions, network.convgate, network.ledger, torch.tensor(share))
        assert expected.keys() == found.keys()
        for name, term in expected.items():
            assert found[name].item() == pytest.approx(term.item(), rel=1e-5, abs=1e-6), (name, share)
