import pytest
import torch

from convgate.analysis import census, evaluate
from convgate.errors import InputError
from convgate.gated import gate
from convgate.gating import Decisions
from convgate.methods import DualGating
from convgate.models import create


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return gate(create("cifar_resnet8"), DualGating(bias=0.0), torch.zeros(2, 3, 32, 32)).train()


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 10) for n in (5, 3)]


def test_what_is_reported_is_what_single_images_give(network, batches):
    done = evaluate(network, batches)
    assert network.training
    network.eval()
    images = torch.cat([x for x, _ in batches])
    singles = [network.decide(image[None]) for image in images]
    network.train()
    assert done.predictions.tolist() == [int(logits.argmax()) for logits, _ in singles]
    assert done.spending.macs.tolist() == [int(network.cost(d).macs) for _, d in singles]
    assert done.accuracy == (done.predictions == torch.cat([y for _, y in batches])).double().mean()
    mean = sum(done.spending.by_layer.values())
    assert mean == pytest.approx(done.spending.macs.double().mean().item())
    assert done.spending.ratio == pytest.approx(mean / network.ledger.dense)
    assert done.spending.census == census(Decisions.concatenate([d for _, d in singles]))


def test_percentiles_are_of_the_shares(network, batches):
    spending = evaluate(network, batches).spending
    shares = spending.macs.double() / spending.dense
    assert spending.percentiles["50"] == pytest.approx(shares.quantile(0.5).item())
    assert list(spending.percentiles.values()) == sorted(spending.percentiles.values())


def test_a_dense_network_has_no_spending(batches):
    assert evaluate(create("cifar_resnet8"), batches).spending is None


def test_images_are_prepared(batches):
    model = create("cifar_resnet8")
    plain = evaluate(model, [(x / 2, y) for x, y in batches])
    assert torch.equal(evaluate(model, batches, prepare=lambda x: x / 2).predictions, plain.predictions)


def test_no_batches_are_refused(network):
    with pytest.raises(InputError, match="no batches"):
        evaluate(network, [])
