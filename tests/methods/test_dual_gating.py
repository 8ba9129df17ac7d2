"""DualGating's options, where it gates, and what it refuses."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from convgate import DualGating, gate, plan
from convgate.errors import InputError, PlanError
from convgate.gating import ChannelGroups, Tiles
from convgate.methods import create as create_method
from convgate.models import create


def kinds(net):
    return {str(spec.kind) for spec in net.plan.gates}


@torch.no_grad()
def assert_open_is_original(net, model, x):
    y = model(x)
    assert (net.replay(x, net.open_decisions(len(x))) - y).abs().max() <= 1e-5 * y.abs().max()


OPTIONS = [
    {"spatial": False},
    {"channel": False},
    {"tile": 1},
    {"tile": 3},
    {"tile": {18: 5, 9: 4, 5: 2}},
    {"group": 4},
    {"group": 5},
    {"group": 1000},
    {"masks": "equal"},
    {"dilated": True},
    {"dilated": True, "masks": "equal", "tile": 1},
    {"filled": True},
    {"filled": True, "masks": "equal", "tile": 5},
    {"where": "everywhere"},
    {"reduction": 1},
    {"reduction": 1000},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_each_option_gates_and_keeps_the_contract(options, randomise, random_decisions):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 18, 18)
    model = randomise(create("cifar_resnet14", width=6), x)
    net = gate(model, DualGating(**options), x)
    assert_open_is_original(net, model, x)
    assert net.cost(net.open_decisions(1)).macs.item() == net.ledger.dense + sum(net.ledger.always.values())
    decisions = random_decisions(net, 2)
    assert torch.isfinite(net.replay(x, decisions)).all()
    net.train()
    y, decisions = net.decide(x)
    (y.square().mean() + net.cost(decisions).ratio.mean()).backward()
    assert all(p.grad is not None for p in net.gate_parameters())


def test_one_kind_alone(make_small):
    assert kinds(make_small()[0]) == {"spatial", "channel"}
    assert kinds(make_small(DualGating(spatial=False))[0]) == {"channel"}
    assert kinds(make_small(DualGating(channel=False))[0]) == {"spatial"}


@pytest.mark.parametrize(
    ("tile", "grids"),
    [(1, [16, 8, 4]), (3, [6, 3, 2]), ({16: 8, 8: 3, 4: 4}, [2, 3, 1]), ({"16": 8, "8": 3, "4": 4}, [2, 3, 1])],
)
def test_tiles(make_small, tile, grids):
    net, _ = make_small(DualGating(tile=tile, channel=False))
    assert [spec.shape for spec in net.plan.gates] == [(1, n, n) for n in grids]


def test_tiles_by_pixels_of_the_image(make_small):
    net, x = make_small(DualGating(pixels=8, channel=False))
    assert [spec.kind.side for spec in net.plan.gates] == [8, 4, 2]  # at the full size, a half and a quarter
    assert {spec.shape for spec in net.plan.gates} == {(1, x.shape[2] // 8, x.shape[3] // 8)}
    with pytest.raises(InputError, match="one of the two"):
        DualGating(pixels=8, tile=2)


def test_groups_round_up_and_close_together(make_small):
    net, _ = make_small(DualGating(group=3, spatial=False))
    assert [(s.shape[0], s.group) for s in net.plan.gates] == [(2, 3), (3, 3), (6, 3)]  # 4, 8 and 16 channels
    decisions = net.open_decisions(1)
    name = "layer1.0.conv1.channel"
    decisions[name].mask[0, 1] = 0
    saved = net.ledger.dense + net.ledger.gate_macs - net.cost(decisions).macs.item()
    # The second group holds the one channel left over: 1 x 4 pairs of each convolution at 16 x 16.
    assert saved == 2 * 9 * 16 * 16 * 1 * 4


def test_masks_paper_and_equal_differ_in_training_only(make_small, random_decisions):
    """DGNet's code masks the features by the spatial gate in evaluation only; "equal" does in training too."""
    paper, x = make_small(DualGating())
    equal, _ = make_small(DualGating(masks="equal"))
    equal.load_state_dict(paper.state_dict())
    decisions = random_decisions(paper, 3)
    for net in (paper, equal):
        for m in net.modules():
            m.training = False
    with torch.no_grad():
        evaluated = paper.replay(x, decisions)
        assert torch.equal(equal.replay(x, decisions), evaluated)
        # Training's graph with evaluation's layers.
        paper.training = equal.training = True
        torch.testing.assert_close(equal.replay(x, decisions), evaluated)
        assert not torch.allclose(paper.replay(x, decisions), evaluated, rtol=1e-3)


@dataclass(frozen=True)
class OutputsAlone(DualGating):
    """Masks of tiles on branches' outputs alone: inside, all is computed, as training with masks="paper" does."""

    def sites(self, trace):
        sites, skipped = super().sites(trace)
        return [replace(site, masks=tuple(m for m in site.masks if m.training)) for site in sites], skipped


BRANCHES = {
    "cifar_resnet14": (18, {"width": 6}),  # odd maps
    "timm/resnet26": (45, {}),  # bottlenecks, which stride inside
    "mobilenet_v2": (48, {"num_classes": 5}),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_open_tiles_of_dilated_masks_are_what_the_whole_branch_computes(name, randomise, random_decisions):
    torch.manual_seed(0)
    size, options = BRANCHES[name]
    x = torch.randn(2, 3, size, size)
    model = randomise(create(name, **options), x)
    dilated, plain, whole = (
        gate(model, method, x).eval() for method in (DualGating(dilated=True), DualGating(), OutputsAlone())
    )
    decisions = random_decisions(whole, 2)
    with torch.no_grad():
        expected = whole.replay(x, decisions)
        worst = expected.abs().max()
        assert (dilated.replay(x, decisions) - expected).abs().max() <= 1e-5 * worst
        assert (plain.replay(x, decisions) - expected).abs().max() > 1e-3 * worst
    macs = [net.cost(decisions).macs for net in (plain, dilated, whole)]
    assert (macs[0] < macs[1]).all()
    assert (macs[1] < macs[2]).all()
    for state in (dilated.open_decisions(1), dilated.closed_decisions(1)):
        assert dilated.cost(state).macs == plain.cost(state).macs


def test_closed_tiles_are_filled_from_their_means(randomise):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=6), x)
    filled, plain = (gate(model, DualGating(filled=yes, channel=False), x).eval() for yes in (True, False))
    sites = {site.name: site for site in filled.plan.sites}
    assert filled.ledger.fills == {
        f"{name}.fill": site.gates[0].units * site.gates[0].channels * site.output[1] for name, site in sites.items()
    }
    closed = plain.closed_decisions(2)
    difference = filled.cost(closed).macs - plain.cost(closed).macs
    assert difference.tolist() == [sum(filled.ledger.fills.values())] * 2
    torch.testing.assert_close(filled.replay(x, closed), plain.replay(x, closed))  # paths start at zero
    filled.train()
    filled.replay(x, closed).square().mean().backward()
    for path in filled.ledger.fills:
        layer = filled.convgate.paths.get_submodule(path)
        assert layer.weight.grad.any()
        assert layer.bias.grad.any()


def test_what_is_read_in_an_unknown_way_is_computed_everywhere():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return x + self.second(torch.roll(self.first(x), 3, 2))

    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Block())
    found = plan(model, DualGating(dilated=True), torch.zeros(1, 3, 9, 9))
    (site,) = found.sites
    (left,) = (skipped for skipped in site.skipped if skipped.kind is Tiles)
    assert left.name == "1.first"
    assert "how far what follows reads it is not known" in left.reason
    assert {layer.name for layer in found.ledger.layers if layer.gated} == {"1.second"}


def test_where(randomise):
    x = torch.randn(2, 3, 32, 32)
    model = randomise(create("timm/resnet26"), x)
    inside = plan(model, DualGating(), x)
    everywhere = gate(model, DualGating(where="everywhere"), x)
    assert {s.name for s in inside.sites} <= {s.name for s in everywhere.plan.sites}
    assert_open_is_original(everywhere, model, x)
    deep = create("timm/resnet18d").eval()
    assert len(plan(deep, DualGating(where="everywhere"), x).sites) == len(plan(deep, DualGating(), x).sites) + 1
    with pytest.raises(PlanError, match="finds nothing to gate"):
        gate(create("cifar_vgg16", width=8), DualGating(where="branches"), x)


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 0},
        {"budget": -0.5},
        {"budget": 1.1},
        {"budget": float("nan")},
        {"budget": "half"},
        {"tile": 0},
        {"tile": -1},
        {"tile": {8: 0}},
        {"tile": 1.5},
        {"tile": {8: 1.5}},
        {"tile": "four"},
        {"tile": {"x": 1}},
        {"group": 0},
        {"group": 2.5},
        {"reduction": 0},
        {"reduction": 1.5},
        {"temperature": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"masks": "both"},
        {"budget": "exact"},
        {"budget_annealing": 1.5},
        {"where": "nowhere"},
        {"bias": float("nan")},
        {"bounds_weight": float("nan")},
    ],
    ids=str,
)
def test_bad_options_are_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        DualGating(**options)


def test_gating_neither_is_refused():
    with pytest.raises(InputError, match="spatial=False, channel=False"):
        DualGating(spatial=False, channel=False)


def test_tiles_larger_than_the_map_are_refused():
    with pytest.raises(PlanError, match=r"tile 5 .*4x4"):
        gate(create("cifar_resnet8"), DualGating(tile=5), torch.zeros(1, 3, 16, 16))
    with pytest.raises(PlanError, match="no tile for it"):
        gate(create("cifar_resnet8"), DualGating(tile={16: 2}), torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), nn.Flatten(), nn.Sequential(nn.Flatten(), nn.Linear(192, 2))],
)
def test_nothing_to_gate_is_an_error_that_shows_the_plan(model):
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(PlanError, match="nothing to gate"):
        gate(model, DualGating(), x)
    str(plan(model, DualGating(), x))  # a plan can always be shown


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_tiny_images_still_gate(size):
    x = torch.randn(2, 3, size, size)
    model = create("cifar_resnet8").eval()
    try:
        net = gate(model, DualGating(), x)
    except PlanError:
        return
    assert_open_is_original(net, model, x)


def test_one_pixel_branches_are_masked_like_all_others():
    """At 4 pixels the last stage works on 1x1 maps; DGNet's rule does not change there."""
    net = gate(create("cifar_resnet8").eval(), DualGating(), torch.zeros(1, 3, 4, 4))
    assert [s.name for s in net.plan.gates if isinstance(s.kind, ChannelGroups)][-1] == "layer3.0.conv1.channel"
    layers = {layer.name: layer for layer in net.ledger.layers}
    assert layers["layer3.0.conv1"].positions == "layer3.0.spatial"


def test_unknown_methods_and_options_are_named():
    with pytest.raises(InputError, match=r"'Nothing'.*DualGating"):
        create_method("Nothing")
    with pytest.raises(InputError, match=r"'density'.*options are: budget"):
        create_method("DualGating", {"density": 1})


def test_noise_ends_when_it_is_to_and_the_gates_go_on_learning(make_small):
    method = DualGating(noise=0.75)
    net, x = make_small(method)
    net.train()
    for progress, noisy in ((0.0, True), (0.74, True), (0.75, False), (0.99, False), (0.1, True)):
        method.schedule(net, progress)
        masks = [torch.cat([d.mask.flatten() for d in net.decide(x)[1].values()]) for _ in range(2)]
        assert torch.equal(*masks) != noisy
    method.schedule(net, 0.9)
    y, decisions = net.decide(x)
    assert all(torch.equal(d.mask, (d.logits >= 0).float()) for d in decisions.values())
    (y.square().mean() + net.cost(decisions).ratio.mean()).backward()
    assert all(p.grad is not None for p in net.gate_parameters())


def test_the_temperature_falls_until_the_noise_ends(make_small):
    method = DualGating(noise=0.8, temperature=2.0, final_temperature=0.5)
    net, _ = make_small(method)
    _, first = next(net.gate_modules())
    for progress, expected in ((0.0, 2.0), (0.4, 1.0), (0.8, 0.5), (0.9, 0.5)):
        method.schedule(net.convgate, progress)
        assert float(first.estimator.keywords["temperature"]) == pytest.approx(expected)
    constant = DualGating()
    constant.schedule(net.convgate, 0.1)
    before = first.estimator
    constant.schedule(net.convgate, 0.2)
    assert first.estimator is before  # a compiled network would be compiled anew


def test_gates_apart_are_each_drawn_to_their_own_density(make_small):
    method = DualGating(budget=0.25, joint=False, bounds_weight=0.0, budget_weight=3.0)
    net, x = make_small(method)
    decisions = net.open_decisions(len(x))
    terms = method.terms(decisions, net.convgate, net.ledger, 0.0)
    assert float(terms["budget"]) == pytest.approx(3.0 * (1 - 0.5) ** 2)
    # A gate of either kind counts as much as one of the other, whatever its MACs.
    closed = net.closed_decisions(len(x))
    names = list(decisions)
    one = decisions.map(lambda name, decision: closed[name] if name == names[0] else decision)
    assert float(method.terms(one, net.convgate, net.ledger, 0.0)["budget"]) == pytest.approx(3.0 * 0.25)


def test_the_budget_falls_evenly_to_what_was_asked_for(make_small):
    method = DualGating(budget=0.4, budget_annealing=0.5)
    assert [method.budget_at(progress) for progress in (0.0, 0.25, 0.5, 0.9)] == pytest.approx([1.0, 0.7, 0.4, 0.4])
    assert DualGating(budget=0.4).budget_at(0.0) == 0.4  # the paper's
    net, x = make_small(method)
    _, decisions = net.train().decide(x)
    for progress, target in ((0.25, 0.7), (0.75, 0.4)):
        terms, expected = (
            torch.stack(list(m.penalty(decisions, net.ledger, progress).values()))
            for m in (method, DualGating(budget=target))
        )
        assert torch.equal(terms, expected)
