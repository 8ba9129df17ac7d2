"""BatchShaping's options, loss terms and schedules; golden numbers of the FGC re-implementation."""

import pytest
import torch

from convgate import BatchShaping, gate, plan
from convgate.errors import InputError
from convgate.gating import batch_shaping
from convgate.models import create

# Dense convolutions, gates' MACs, number of gates, of the CIFAR ResNets with option A shortcuts; derived by arithmetic
# from the FGC re-implementation's test_comp_bas.py, which leaves the classifier out.
GOLDEN = {20: (40_550_400, 9_984, 336), 32: (68_861_952, 17_152, 560), 56: (125_485_056, 31_488, 1_008)}


@pytest.mark.parametrize("depth", GOLDEN)
def test_macs_and_gates_of_the_cifar_resnets(depth):
    model = create(f"cifar_resnet{depth}", shortcut="A").eval()
    planned = plan(model, BatchShaping(), torch.zeros(1, 3, 32, 32))
    classifier = 64 * 10
    units = sum(spec.units for spec in planned.gates)
    assert (planned.ledger.dense - classifier, planned.ledger.gate_macs, units) == GOLDEN[depth]


def test_a_bottleneck_has_gates_on_its_first_two_features():
    planned = plan(create("resnet50").eval(), BatchShaping(), torch.zeros(1, 3, 64, 64))
    names = [spec.name for spec in planned.gates]
    assert len(names) == 2 * 16
    assert names[:2] == ["layer1.0.conv1.channel", "layer1.0.conv2.channel"]


def test_all_gates_have_sixteen_hidden_units(make_small):
    net, _ = make_small(BatchShaping())
    assert {module.head.reduce.out_features for _, module in net.gate_modules()} == {16}


def test_the_penalty_is_the_distance_and_the_mean_openness(make_small):
    method = BatchShaping(shaping_weight=0.5, l0_weight=0.3, l0_start=0.0, l0_end=0.0)
    net, x = make_small(method, n=8)
    net.train()
    _, decisions = net.decide(x)
    openness = torch.sigmoid(torch.cat([d.logits.flatten(1) for d in decisions.values()], 1))
    terms = method.penalty(decisions, net.ledger, 0.05)
    # Three quarters of the way to the end of shaping at 0.2.
    torch.testing.assert_close(terms["shaping"], 0.5 * 0.75 * batch_shaping(openness, 0.6, 0.4))
    torch.testing.assert_close(terms["l0"], 0.3 * openness.mean())


# epoch of 500 -> weights, with gamma 0.75 and rho 0.4: the formulas of FGC's train_config_bas.py.
@pytest.mark.parametrize(
    ("epoch", "shaping", "l0"),
    [(0, 0.75, 0.0), (50, 0.375, 0.0), (100, 0.0, 0.0), (200, 0.0, 0.2), (300, 0.0, 0.4), (499, 0.0, 0.4)],
)
def test_schedules(epoch, shaping, l0):
    assert BatchShaping().weights(epoch / 500) == (pytest.approx(shaping), pytest.approx(l0))


def test_a_schedule_without_a_rise_or_a_shaping_phase():
    assert BatchShaping(shaping_end=0.0, l0_start=0.5, l0_end=0.5).weights(0.0) == (0.0, 0.0)
    assert BatchShaping(shaping_end=0.0, l0_start=0.5, l0_end=0.5).weights(0.5) == (0.0, 0.4)


def test_groups_and_where(randomise):
    x = torch.randn(2, 3, 18, 18)
    model = randomise(create("cifar_resnet8", width=4), x)
    grouped = gate(model, BatchShaping(group=3), x)
    assert [(s.shape[0], s.group) for s in grouped.plan.gates] == [(2, 3), (3, 3), (6, 3)]
    with torch.no_grad():
        torch.testing.assert_close(grouped.replay(x, grouped.open_decisions(2)), model(x))
    deep = create("timm/resnet18d").eval()
    x = torch.zeros(1, 3, 64, 64)
    inside, everywhere = (len(plan(deep, BatchShaping(where=w), x).sites) for w in ("branches", "everywhere"))
    assert everywhere == inside + 1


def test_every_convolution_is_gated_or_skipped_with_a_reason():
    for name in ("resnet18", "mobilenet_v3_large", "timm/res2net50d", "vgg16_bn"):
        model = create(name).eval()
        planned = plan(model, BatchShaping(), torch.zeros(1, 3, 64, 64))
        named = {planned.layer_names[conv] for site in planned.sites for conv in site.convs}
        named |= {r.name for site in planned.sites for r in site.skipped} | {r.name for r in planned.skipped}
        convs = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)}
        # Branches without a gate are named as a whole.
        assert all(any(conv == n or conv.startswith(f"{n}.") for n in named) for conv in convs), name


def test_the_penalty_needs_channel_gates(make_small):
    net, _ = make_small(BatchShaping())
    with pytest.raises(InputError, match="no channel gate with logits"):
        BatchShaping().penalty(net.open_decisions(2), net.ledger, 0.0)


@pytest.mark.parametrize(
    "options",
    [
        {"a": 0},
        {"b": -1.0},
        {"shaping_weight": -1},
        {"l0_weight": float("nan")},
        {"shaping_end": 1.5},
        {"l0_start": -0.1},
        {"l0_end": 0.1},
        {"normalisation": "batch"},
        {"where": "nowhere"},
        {"hidden": 0},
        {"group": 0},
        {"temperature": 0},
        {"bias": "two"},
    ],
    ids=str,
)
def test_bad_options_are_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        BatchShaping(**options)
