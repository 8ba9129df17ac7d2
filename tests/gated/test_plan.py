"""Plans: edited, applied, checked, shown."""

import json
import sys
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import convgate
from convgate import ChannelGating, DualGating, LayerSkipping, gate, plan
from convgate.errors import PlanError
from convgate.gated import FillSpec, MaskSpec, PartialSpec
from convgate.gating import Activations, ChannelGroups, Gate, LinearHead, SpatialHead, Tiles
from convgate.models import create

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create("cifar_resnet8", width=4).eval()


# -- editing and applying ----------------------------------------------------------------------------------------------


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def test_an_applied_plan_is_what_gate_makes(model):
    planned = plan(model, DualGating(), X)
    torch.manual_seed(1)
    applied = planned.apply()
    torch.manual_seed(1)
    gated = gate(model, DualGating(), X)
    assert same(applied.state_dict(), gated.state_dict())
    assert applied.plan == gated.plan
    assert not applied.training


def test_a_plan_is_applied_to_the_weights_of_that_moment_and_as_often_as_wanted():
    model = create("cifar_resnet8", width=4).eval()
    planned = plan(model, DualGating(), X)
    nn.init.constant_(model.conv1.weight, 0.5)
    first, second = planned.apply(), planned.apply()
    assert torch.equal(first.conv1.weight, model.conv1.weight)
    assert first.conv1.weight is not second.conv1.weight is not model.conv1.weight


def test_a_model_that_changed_is_planned_again():
    model = create("cifar_resnet8", width=4).eval()
    planned = plan(model, DualGating(), X)
    model.layer1 = nn.Identity()
    with pytest.raises(PlanError, match="changed since it was planned"):
        planned.apply()


def test_sites_are_left_out_by_name_or_by_what_they_lie_below(model):
    full = plan(model, DualGating(), X)
    for names in (("layer3",), ("layer3.0",)):
        edited = full.without(*names)
        assert [site.name for site in edited.sites] == ["layer1.0", "layer2.0"]
        reasons = {rejected.name: rejected.reason for rejected in edited.skipped}
        assert reasons["layer3.0"] == reasons["layer3.0.conv1"] == "left out by the caller"
        listed = {edited.layer_names[c] for s in edited.sites for c in s.convs} | set(reasons)
        assert {layer.name for layer in edited.ledger.layers} <= listed
        assert not any(layer.gated for layer in edited.ledger.layers if layer.name.startswith("layer3"))
        assert set(edited.ledger.gates) == {g.name for g in full.gates if not g.name.startswith("layer3")}
    assert gate(model, DualGating(), X, exclude="layer3").plan == full.without("layer3")
    assert (
        gate(model, DualGating(), X, exclude=("layer3", "layer1.0")).plan.sites
        == full.without("layer3", "layer1").sites
    )


@torch.no_grad()
def test_an_edited_plan_runs_and_counts(model):
    net = plan(model, DualGating(), X).select(lambda site: site.output[1] > 4).apply()
    assert [site.name for site in net.plan.sites] == ["layer2.0", "layer3.0"]
    opened = net.open_decisions(2)
    torch.testing.assert_close(net.replay(X, opened), model(X))
    assert net.cost(opened).macs.tolist() == [net.ledger.dense + net.ledger.gate_macs] * 2


def test_unknown_names_and_parts_of_sites_are_refused(model):
    full = plan(model, DualGating(), X)
    with pytest.raises(PlanError, match=r"did you mean 'layer3\.0'"):
        full.without("layer3.O")
    with pytest.raises(PlanError, match=r"gated as a part of 'layer1\.0'"):
        full.without("layer1.0.conv2")
    assert full.without("fc").sites == full.sites  # not gated in any case
    with pytest.raises(PlanError, match="nothing to gate"):
        full.without("layer1", "layer2", "layer3").apply()
    with pytest.raises(PlanError, match="gated already"):
        full.apply().plan.without("layer1")


# -- what is checked ---------------------------------------------------------------------------------------------------


def gates(site, **changes):
    return replace(site, gates=tuple(replace(spec, **changes) for spec in site.gates))


def mistaken(change, built=None):
    @dataclass(frozen=True)
    class Mistaken(DualGating):
        def sites(self, trace):
            sites, skipped = super().sites(trace)
            return [change(site) for site in sites], skipped

        def gate(self, spec):
            return built(spec) if built else super().gate(spec)

    return Mistaken(channel=False)


MISTAKES = {
    "an unknown kind": (lambda s: gates(s, kind="spacial"), "kind 'spacial'"),
    "an unknown gate": (lambda s: replace(s, masks=(*s.masks, MaskSpec("nope", s.masks[0].node))), "gate 'nope'"),
    "an unknown node": (lambda s: replace(s, masks=(*s.masks, MaskSpec(s.gates[0].name, "nope"))), "no such node"),
    "a gate that reads what comes later": (
        lambda s: gates(s, reads=s.masks[-1].node, channels=s.output[1]),
        "decides before",
    ),
    "one name for all gates": (
        lambda s: replace(gates(s, name="same"), masks=tuple(replace(m, gate="same") for m in s.masks)),
        "two gates are named 'same'",
    ),
    "a mask of another shape": (lambda s: gates(s, shape=(1, 3, 3)), r"has \[1, "),
    "other channels": (lambda s: gates(s, channels=5), "to read 5 channels"),
    "a kind for other channels": (
        lambda s: gates(s, kind=ChannelGroups(5), shape=(5, 1, 1)),
        "for 5 channels",
    ),
    "two masks of a kind": (lambda s: replace(s, masks=(*s.masks, s.masks[-1])), "two gates of one kind"),
    "tiles finer than the map": (
        lambda s: replace(s, masks=(MaskSpec(s.gates[0].name, "fc"),)),
        "not that of a feature",
    ),
    "a gate for nothing": (lambda s: replace(s, masks=()), "decides nothing"),
    "a trunk that is not there": (lambda s: gates(s, reads=convgate.gated.TRUNK), "trunk\\(\\) returns None"),
    "activations that mask": (
        lambda s: gates(s, kind=Activations(s.output[1]), shape=s.output[1:]),
        "need a PartialSpec",
    ),
    "a partial of tiles": (
        lambda s: replace(s, partials=(PartialSpec(s.gates[0].name, s.convs[0], 2),)),
        "not Activations",
    ),
    "a filling of what no mask closes": (
        lambda s: replace(s, fills=(FillSpec(s.gates[0].name, s.convs[0], s.output[1]),)),
        "no mask of it there",
    ),
    "a filling of other channels": (
        lambda s: replace(s, fills=(FillSpec(s.gates[0].name, s.masks[-1].node, 5),)),
        "gives 5 channels",
    ),
    "two fillings": (
        lambda s: replace(s, fills=2 * (FillSpec(s.gates[0].name, s.masks[-1].node, s.output[1]),)),
        "filled twice",
    ),
    "a reach that is not one": (
        lambda s: replace(s, masks=(replace(s.masks[-1], reach=(1, -1)),)),
        r"reach=\(1, -1\); give \(rows, columns\)",
    ),
    "a dilated mask of channels": (
        lambda s: replace(
            gates(s, kind=ChannelGroups(s.output[1]), shape=(s.output[1], 1, 1)),
            masks=(replace(s.masks[-1], reach=(1, 1)),),
        ),
        "only masks of Tiles can be dilated",
    ),
    "no sites at all": (lambda s: None, r"returns \(\[Site"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_a_methods_author_is_named_with_method_and_site(mistake, model):
    change, message = MISTAKES[mistake]
    with pytest.raises(PlanError, match=message) as caught:
        plan(model, mistaken(change), X)
    assert str(caught.value).startswith("Mistaken")
    assert mistake == "no sites at all" or "site 'layer" in str(caught.value)


BUILT = {
    "not a gate": (lambda spec: SpatialHead(spec.channels), "returned SpatialHead"),
    "an offset of one size": (
        lambda spec: Gate(spec.shape, SpatialHead(spec.channels), torch.sigmoid),
        r"Gate\(spec\.offset_shape",
    ),
    "logits of another shape": (
        lambda spec: Gate(spec.offset_shape, LinearHead(spec.channels * 64, 3), torch.sigmoid),
        "fails on a feature|gives logits",
    ),
    "a head without costs": (lambda spec: Gate(spec.offset_shape, nn.Conv2d(4, 1, 1), torch.sigmoid), "macs\\(grid\\)"),
    "a bug": (lambda spec: 1 // 0, "ZeroDivisionError"),
}


@pytest.mark.parametrize("mistake", BUILT)
def test_a_gate_that_does_not_suit_its_place_is_named(mistake, model):
    built, message = BUILT[mistake]
    with pytest.raises(PlanError, match=message) as caught:
        plan(model, mistaken(lambda site: site, built), X)
    assert "layer1.0.spatial" in str(caught.value)


def test_partials_need_a_convolution_that_the_parts_divide(model):
    @dataclass(frozen=True)
    class Mistaken(ChannelGating):
        parts: int = 3

        def sites(self, trace):
            sites, skipped = super().sites(trace)
            return [replace(s, partials=(replace(s.partials[0], parts=self.parts),)) for s in sites], skipped

    with pytest.raises(PlanError, match="3 parts do not divide"):
        plan(model, Mistaken(), X)


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_a_plan_is_shown_without_rich_and_as_plain_data(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    planned = plan(model, DualGating(), X)
    text = str(planned)
    assert "layer1.0" in text
    assert "spatial 8x8 tiles" in text
    data = json.loads(json.dumps(planned.as_data()))
    assert [gate["kind"] for gate in data["sites"][0]["gates"]] == ["spatial", "channel"]


class Pooled(nn.Module):
    """A branch without a resolution that tiles could gate."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = nn.Sequential(
            nn.AvgPool2d(8), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Upsample(scale_factor=8)
        )

    def forward(self, x):
        x = self.stem(x)
        return x + self.branch(x)


def test_the_word_before_a_reason_is_that_of_the_gate():
    text = str(plan(Pooled().eval(), DualGating(), torch.zeros(1, 3, 32, 32)))
    assert "no spatial gate: has no convolution at a resolution that tiles could gate" in text
    assert "no channel gate: has no convolution" not in text


def test_layers_that_no_gate_can_skip_are_listed_with_a_reason(model):
    planned = plan(model, LayerSkipping(), X)
    reasons = {rejected.name: rejected.reason for rejected in planned.skipped}
    assert "is a Linear" in reasons["fc"]


# -- any size ----------------------------------------------------------------------------------------------------------


def test_a_gates_mask_follows_the_map_and_its_offset_does_not():
    spec = next(g for g in plan(create("cifar_resnet8"), DualGating(tile=3), X).gates if isinstance(g.kind, Tiles))
    assert spec.shape == (1, 6, 6)
    larger = spec.at({spec.on: (1, 16, 20, 33)})
    assert larger.shape == (1, 7, 11)
    assert larger.offset_shape == spec.offset_shape == (1, 1, 1)


# -- how the gates start -----------------------------------------------------------------------------------------------


STARTS = {
    "whole": (DualGating(), "gates start open (logit 5.0)"),
    "bias": (LayerSkipping(bias=-1.0), "gates start closed (logit -1.0)"),
    "paper": (DualGating(init="paper"), "gates start with logits about 2.0, which differ from image to image"),
    "thresholds": (
        ChannelGating(threshold=-3.0),
        "gates start with logits about 3.0, which differ from image to image",
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_the_plan_says_how_its_gates_start(model, name):
    method, said = STARTS[name]
    assert str(plan(model, method, X)).splitlines()[-1] == said


def test_the_plan_says_nothing_of_heads_that_do_not_tell(model):
    @dataclass(frozen=True)
    class Silent(DualGating):
        def gate(self, spec):
            gate = super().gate(spec)
            if isinstance(spec.kind, Tiles):
                del gate.head.start
            return gate

    assert str(plan(model, Silent(), X)).splitlines()[-1] == "channel gates start open (logit 5.0)"
    assert "gates start" not in str(plan(model, Silent(channel=False), X))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("by function", "write it as a layer, nn.Conv2d"),
        ("in a module", "written with layers"),
        ("exported", "give the model itself"),
    ],
)
def test_convolutions_without_a_layer_are_listed_with_what_to_do(how, words):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

        def forward(self, x):
            return nn.functional.conv2d(x, self.weight, padding=1)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = Functional()

        def forward(self, x):
            return self.conv(x).relu()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner, self.next = nn.Conv2d(3, 8, 3, padding=1), Block(), nn.Conv2d(8, 8, 1)
            self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

        def forward(self, x):
            x = self.stem(x)
            if how == "by function":
                x = nn.functional.conv2d(x, self.weight, padding=1)
            elif how == "in a module":
                x = self.inner(x)
            return x + self.next(x)

    x = torch.zeros(2, 3, 8, 8)
    model = torch.export.export(Model(), (x,)).module() if how == "exported" else Model()
    reasons = [skipped.reason for skipped in plan(model, DualGating(), x).skipped]
    assert any(words in reason for reason in reasons), reasons
