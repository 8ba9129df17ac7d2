import copy
from functools import partial

import pytest
import torch
from torch import nn

from convgate import DualGating, calibrate, gate
from convgate.calibration import search
from convgate.errors import BudgetError, InputError
from convgate.models import create


def measured(net, batches):
    """Mean share of the dense MACs in evaluation, as a user would measure it."""
    net.eval()
    with torch.no_grad():
        shares = [net.cost(net.decide(x)[1]).macs.double() / net.ledger.dense for x in batches]
    return torch.cat(shares).mean().item()


def offsets(net):
    return [g.offset.clone() for _, g in net.gate_modules()]


MODELS = {"cifar_resnet20": 32, "mobilenet_v2": 64, "cifar_vgg16": 32}


@pytest.fixture(scope="module", params=list(MODELS))
def untrained(request):
    """A network with untrained gates, whose logits are nearly all alike (ties), and images."""
    torch.manual_seed(0)
    size = MODELS[request.param]
    images = torch.randn(6, 3, size, size)
    return gate(create(request.param).eval(), DualGating(), images[:1]), list(images.split(4))


@pytest.mark.parametrize("macs", [0.3, 0.5, 0.8])
def test_hits_the_budget(untrained, macs):
    net, batches = untrained
    least = net.cost(net.closed_decisions(1)).ratio.item()
    if macs < least:
        with pytest.raises(BudgetError, match=f"{least:.4f}"):
            calibrate(net, batches, macs)
        return
    result = calibrate(net, batches, macs)
    assert measured(net, batches) == pytest.approx(macs, rel=5e-3)
    # Calibration runs its images with channels last, whose sums round in another order: of logits that are all nearly
    # alike, a few lie so near their threshold that this decides.
    assert result.reached == pytest.approx(measured(net, batches), rel=1e-3)
    assert result.target == macs
    assert result.images == 6


def test_is_idempotent(small):
    net, x = small
    calibrate(net, [x], 0.6)
    before = offsets(net)
    calibrate(net, [x], 0.6)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(before, offsets(net), strict=True))


def test_scattered_gates_hit_the_budget_and_nothing_else_changes(make_small):
    net, x = make_small(n=32)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for macs in (0.9, 0.4, 0.7):
        calibrate(net, [x], macs)
        assert measured(net, [x]) == pytest.approx(macs, rel=5e-3)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(k.endswith(".offset") for k in changed)


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_restored(small, training):
    net, x = small
    net.train(training)
    net.layer1.eval()
    modes = [m.training for m in net.modules()]
    calibrate(net, [x], 0.6)
    assert [m.training for m in net.modules()] == modes


def test_batches_may_be_tuples_a_generator_or_a_loader(small):
    net, x = small
    calibrate(net, ((x, torch.zeros(3)) for _ in range(2)), 0.6)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.zeros(3)), batch_size=2)
    assert calibrate(net, loader, 0.6).images == 3


@pytest.mark.parametrize("macs", [0.001, 0.05])
def test_unreachable_budgets_name_the_least(small, macs):
    net, x = small
    least = net.cost(net.closed_decisions(1)).ratio.item()
    before = offsets(net)
    with pytest.raises(BudgetError, match=f"{least:.4f}"):
        calibrate(net, [x], macs)
    assert all(torch.equal(a, b) for a, b in zip(before, offsets(net), strict=True))


@pytest.mark.parametrize("macs", [0, -1, 1.5, float("nan"), float("inf"), "half"])
def test_bad_budgets(small, macs):
    net, x = small
    with pytest.raises(InputError, match="budget"):
        calibrate(net, [x], macs)


@pytest.mark.parametrize(
    "batches",
    [
        [],
        iter(()),
        [torch.full((2, 3, 16, 16), float("nan"))],
        [torch.zeros(2, 3, 16, 16), torch.full((2, 3, 16, 16), float("inf"))],
        [torch.zeros(2, 3, 16, 16, dtype=torch.uint8)],
        [torch.zeros(0, 3, 16, 16)],
        [{"image": torch.zeros(2, 3, 16, 16)}],
        [[]],
        ["x"],
        [None],
        None,
    ],
    ids=lambda b: str(b)[:20],
)
def test_bad_images(small, batches):
    net, _ = small
    net.train()
    before = offsets(net)
    with pytest.raises(InputError):
        calibrate(net, batches, 0.6)
    assert all(torch.equal(a, b) for a, b in zip(before, offsets(net), strict=True))
    assert net.training


@pytest.mark.parametrize("tolerance", [-0.1, float("nan")])
def test_a_tolerance_that_is_none_is_refused(small, tolerance):
    net, x = small
    with pytest.raises(InputError, match=f"tolerance={tolerance}"):
        calibrate(net, [x], 0.5, tolerance=tolerance)


def test_too_few_passes_leave_the_gates_as_they_were(small):
    net, x = small
    before = offsets(net)
    with pytest.raises(BudgetError, match="max_passes"):
        calibrate(net, [x], 0.3, max_passes=2)
    assert all(torch.equal(a, b) for a, b in zip(before, offsets(net), strict=True))


def _interrupted(measure, passes, *arguments):
    passes.append(1)
    if len(passes) > 1:
        raise KeyboardInterrupt
    return measure(*arguments)


def test_an_error_inside_leaves_the_gates_as_they_were(small, monkeypatch):
    net, x = small
    before = offsets(net)
    monkeypatch.setattr(search, "measure", partial(_interrupted, search.measure, []))
    with pytest.raises(KeyboardInterrupt):
        calibrate(net, [x], 0.3)
    assert all(torch.equal(a, b) for a, b in zip(before, offsets(net), strict=True))


def test_dense_budget(small):
    net, x = small
    calibrate(net, [x], 1.0)
    assert measured(net, [x]) == pytest.approx(1.0, rel=5e-3)


def test_other_precisions(make_small):
    net, x = make_small()
    net.double()
    calibrate(net, [x.double()], 0.5)
    assert measured(net, [x.double()]) == pytest.approx(0.5, rel=5e-3)


def test_images_of_double_precision_are_refused(small):
    net, x = small
    with pytest.raises(InputError, match="float64"):
        calibrate(net, [x.double()], 0.5)


def test_a_network_without_gates_is_refused():
    with pytest.raises(InputError):
        calibrate(nn.Linear(2, 2), [torch.zeros(2, 3, 8, 8)], 0.5)


def test_calibration_of_a_copy_leaves_the_original(small):
    net, x = small
    before = offsets(net)
    calibrate(copy.deepcopy(net), [x], 0.5)
    assert all(torch.equal(a, b) for a, b in zip(before, offsets(net), strict=True))


def test_macs_is_another_name_of_budget(small):
    net, x = small
    assert calibrate(net, [x], macs=0.6).target == calibrate(net, [x], budget=0.6).target == 0.6


def test_it_says_how_many_answers_stay(randomise, scatter, caplog):
    torch.manual_seed(0)
    x = torch.randn(32, 3, 16, 16)
    net = scatter(gate(randomise(create("cifar_resnet8", width=16), x), DualGating(), x[:1]))
    result = calibrate(net, [x], 0.3)
    with torch.no_grad():
        opened = net.replay(x, net.open_decisions(len(x))).argmax(1)
        assert result.agreement == pytest.approx((net(x).argmax(1) == opened).double().mean().item())
    assert result.agreement < 0.8
    assert "keeps" in caplog.text
    assert calibrate(net, [x], 0.3, agreement=False).agreement is None


def test_answers_are_compared_on_the_same_images(make_small):
    """A loader that shuffles gives each pass another order."""
    net, x = make_small(n=48)

    class Shuffled:
        def __iter__(self):
            yield from x[torch.randperm(len(x))].split(16)

    torch.manual_seed(0)
    result = calibrate(net, Shuffled(), 0.9)
    with torch.no_grad():
        opened = net.replay(x, net.open_decisions(len(x))).argmax(1)
        assert result.agreement == pytest.approx((net(x).argmax(1) == opened).double().mean().item())


def test_one_target_is_given(small):
    net, x = small
    assert calibrate(net, [x]).target == 0.5
    for targets in (
        {"budget": 0.5, "macs": 0.3},
        {"budget": 0.5, "milliseconds": 5.0},
        {"macs": 0.3, "milliseconds": 5.0},
    ):
        with pytest.raises(InputError, match="give one of the two"):
            calibrate(net, [x], **targets)
    with pytest.raises(InputError, match="give one of the three"):
        calibrate(net, [x], 0.5, macs=0.5, milliseconds=5.0)
    with pytest.raises(InputError, match=r"macs=1\.5"):
        calibrate(net, [x], macs=1.5)


def test_all_answers_stay_where_nothing_is_closed(make_small, caplog):
    torch.manual_seed(0)
    x = torch.randn(16, 3, 16, 16)
    net = gate(create("cifar_resnet8", width=4).eval(), DualGating(), x[:1])
    assert calibrate(net, [x], 1.0).agreement == 1.0
    assert not caplog.text


@pytest.mark.parametrize("where", ["conv1", "fc"])
def test_weights_that_are_not_finite_are_named(small, where):
    net, x = small
    net.get_submodule(where).weight.data[0] = float("nan")
    with pytest.raises(InputError, match="finite"):
        calibrate(net, [x], 0.6)


def test_a_loader_is_read_again_and_not_kept(make_small):
    net, x = make_small(n=96)
    reads = []

    class Loader:
        def __iter__(self):
            reads.append(1)
            yield from x.split(8)

    result = calibrate(net, Loader(), 0.6)
    assert len(reads) == result.passes + 1  # and once for the agreement
    assert result.images == 96
    assert measured(net, [x]) == pytest.approx(0.6, rel=5e-3)


@pytest.mark.parametrize("fast", [True, False])
def test_what_is_confirmed_is_computed_in_full(small, monkeypatch, fast):
    """On more images than the subset holds, the search may round; the last pass may not."""
    net, _ = small
    monkeypatch.setattr("convgate.calibration.search.computes_in_bfloat16", lambda device: fast)
    torch.manual_seed(0)
    batches = list(torch.randn(80, 3, 16, 16).split(40))
    rounded = []
    hook = net.fc.register_forward_hook(lambda module, given, output: rounded.append(output.dtype == torch.bfloat16))
    result = calibrate(net, batches, 0.6, agreement=False)
    hook.remove()
    assert any(rounded) == fast
    assert not any(rounded[-2:])
    assert result.reached == pytest.approx(measured(net, batches), rel=1e-6)
    assert result.reached == pytest.approx(0.6, rel=5e-3)
