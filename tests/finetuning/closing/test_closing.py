"""Closing for good: budgets are met, layers make up for what closed, and what cannot be reached is said."""

import copy

import pytest
import torch

from convgate import BatchShaping, DualGating, LayerSkipping, calibrate, gate
from convgate.errors import BudgetError
from convgate.finetuning.closing import Closing
from convgate.finetuning.closing.readers import Closable, closable
from convgate.finetuning.closing.reconstruct import masks_of, reconstruct
from convgate.finetuning.judge import judge
from convgate.models import create

METHODS = [
    DualGating(masks="equal", where="everywhere"),
    DualGating(group=2, where="everywhere"),
    DualGating(group=3, where="everywhere"),  # of 8, 16 and 32 channels: last groups of 2, 1 and 2
    BatchShaping(),
]


@pytest.fixture(params=METHODS, ids=["dual", "dual, groups of 2", "dual, groups of 3", "batch shaping"])
def made(request, randomise):
    torch.manual_seed(0)
    images = torch.randn(32, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=8), images).eval()
    net = gate(model, request.param, images[:1]).eval()
    return model, net, list(images.split(8))


def test_a_round_ends_at_its_share(made):
    _, net, batches = made
    closing = Closing(net, copy.deepcopy(net))
    for share in (0.9, 0.8):
        closing.close_to(share, batches)
        assert share - 0.05 < closing.share() <= share  # a unit of this network is up to 4 % of its MACs
        with torch.no_grad():
            decided = net.decide(torch.cat(batches))[1]
        for name, is_open in closing.is_open.items():
            assert bool((decided[name].mask.flatten(1).bool() == is_open).all()), name
        assert net.cost(decided).ratio.mean().item() == pytest.approx(closing.share())


def test_calibration_goes_on_in_the_same_order(made):
    """A shift of all logits reopens the units that closed last, and closes those that would have been next."""
    _, net, batches = made
    closing = Closing(net, copy.deepcopy(net))
    closing.close_to(0.8, batches)
    first = {name: units.clone() for name, units in closing.is_open.items()}
    reached = calibrate(net, batches, 0.85, tolerance=0.02, agreement=False)
    assert reached.reached == pytest.approx(0.85, rel=0.02)
    with torch.no_grad():
        masks = net.decide(batches[0])[1]
    for name, is_open in first.items():
        assert bool((masks[name].mask.flatten(1).bool() >= is_open).all())


def test_layers_make_up_for_what_closed(made):
    """On images that were not fitted to, the network answers more like the dense one than by closing alone."""
    model, net, batches = made
    torch.manual_seed(5)
    other = [(torch.randn(64, 3, 16, 16), None)]
    closing = Closing(net, copy.deepcopy(net))
    closing.close_to(0.8, batches)
    made_up = judge(net, model, other)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            net.state_dict()[name].copy_(value)
    assert made_up.kl < judge(net, model, other).kl


def test_where_nothing_closed_nothing_changes(made):
    _, net, batches = made
    before = copy.deepcopy(net.state_dict())
    gates = closable(net)
    reconstruct(net, copy.deepcopy(net), gates, {g.gate: torch.ones(g.units, dtype=torch.bool) for g in gates}, batches)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_the_copy_of_a_channel_takes_its_place(randomise):
    """Channels 0 and 1 of a feature are equal: the layer behind does without one as if nothing had closed."""
    torch.manual_seed(0)
    images = torch.randn(16, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=8), images).eval()
    block = model.get_submodule("layer1.0")
    with torch.no_grad():
        block.conv1.weight[1] = block.conv1.weight[0]
        for values in (block.bn1.weight, block.bn1.bias, block.bn1.running_mean, block.bn1.running_var):
            values[1] = values[0]
    net = gate(model, METHODS[0], images[:1]).eval()
    whole = copy.deepcopy(net)
    gates = closable(net)
    is_open = {g.gate: torch.ones(g.units, dtype=torch.bool) for g in gates}
    is_open["layer1.0.conv1.channel"][1] = False
    with torch.no_grad():
        wanted = model(images)
        given = masks_of(net, is_open, len(images), (16, 16))
        without = (net(images, given=given) - wanted).abs().max()
        reconstruct(net, whole, gates, is_open, [images])
        assert (net(images, given=given) - wanted).abs().max() < 0.1 * without  # all but the ridge's part


def test_a_budget_that_is_out_of_reach_is_an_error(made):
    _, net, batches = made
    closing = Closing(net, copy.deepcopy(net))
    with pytest.raises(BudgetError, match="all units that may close"):
        closing.close_to(closing.least() / 2, batches)


def test_a_checkpoint_holds_what_is_closed(made):
    _, net, batches = made
    closing = Closing(net, copy.deepcopy(net))
    closing.close_to(0.85, batches)
    again = Closing(net, copy.deepcopy(net))
    again.load_state_dict(closing.state_dict())
    assert again.share() == closing.share()


def test_gates_of_whole_layers_are_not_closable(randomise):
    images = torch.randn(4, 3, 16, 16)
    net = gate(randomise(create("cifar_resnet8", width=4), images), LayerSkipping(), images[:1])
    assert closable(net) == []


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_few_batches_do(randomise, batches):
    """One batch is divided, so that there is something to check on; five are not a multiple of what is left out."""
    torch.manual_seed(0)
    images = torch.randn(20, 3, 16, 16)
    net = gate(randomise(create("cifar_resnet8", width=8), images).eval(), METHODS[0], images[:1]).eval()
    closing = Closing(net, copy.deepcopy(net))
    closing.close_to(0.8, list(images.chunk(batches)))
    assert closing.share() <= 0.8
    with torch.no_grad():
        assert bool(net(images).isfinite().all())


@pytest.mark.parametrize(
    ("group", "units", "block"), [(1, 64, 8), (1, 256, 16), (4, 64, 4), (16, 32, 1), (3, 128, 16), (1, 4, 1)]
)
def test_channels_close_in_blocks_that_vectors_hold(made, group, units, block):
    _, net, _ = made
    closing = Closing(net, copy.deepcopy(net))
    closing._by_name["a"] = Closable("a", units, group, units * group, ())
    closing.is_open["a"] = torch.ones(units, dtype=torch.bool)
    assert closing._block("a", units) == block
    closing.is_open["a"][0] = False  # a block that was cut is made up for
    assert closing._block("a", units) == (block - 1 or block)
    assert closing._block("a", 1) == 1


def test_a_layer_without_bias_or_norm_behind_it_gets_no_constant(randomise):
    """The convolutions of a pre-activation network end in a sum, which adds nothing to what they compute."""
    torch.manual_seed(0)
    images = torch.randn(24, 3, 16, 16)
    model = randomise(create("cifar_preact_resnet11", width=8), images).eval()
    net = gate(model, METHODS[0], images[:1]).eval()
    without = [gate for gate in closable(net) for reader in gate.readers if not reader.takes_constants]
    assert without
    closing = Closing(net, copy.deepcopy(net))
    closing.close_to(0.7, list(images.split(8)))
    torch.manual_seed(5)
    other = torch.randn(64, 3, 16, 16)
    with torch.no_grad():
        wanted, made_up = model(other), net(other)
        given = net.decide(other)[1]
        alone = copy.deepcopy(net)
        for name, value in model.state_dict().items():
            alone.state_dict()[name].copy_(value)
        closed = alone(other, given=given)
    assert (made_up - wanted).square().mean() < (closed - wanted).square().mean()
