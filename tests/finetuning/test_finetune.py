"""Finetuning reaches its budget, resumes exactly, judges what it says it judges, and fails loudly."""

import json
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock

import convgate.engine
from convgate import DualGating, gate, load
from convgate.errors import BudgetError, InputError
from convgate.finetuning import finetune
from convgate.finetuning.settings import Settings
from convgate.models import create


def tiny(randomise, width=4, n=48):
    torch.manual_seed(0)
    images = torch.randn(n, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=width), images)
    return model, gate(model, DualGating(masks="equal"), images[:1]), list(images.split(8))


# With 28 units gates learn what to close; with 112, units close for good.
WIDTHS = pytest.mark.parametrize("width", [4, 16])


@WIDTHS
def test_it_reaches_its_budget_and_writes_what_it_made(randomise, tmp_path, width):
    model, net, batches = tiny(randomise, width)
    said = []
    result = finetune(net, batches, budget=0.8, steps=16, out=tmp_path, keep=0.0, say=said.append)
    assert result.network is net
    assert not net.training
    assert result.before.agreement == 1.0
    trained = batches[1:]
    with torch.no_grad():
        shares = torch.cat([net.cost(net.decide(x)[1]).ratio for x in trained])
        agreed = (net(batches[0]).argmax(1) == model(batches[0]).argmax(1)).float().mean()
    if width == 4:
        assert shares.mean().item() == pytest.approx(0.8, rel=5e-3)
    else:  # whole units close, of which this network has few
        assert 0.75 < shares.mean().item() <= 0.8
    assert result.after.agreement == pytest.approx(agreed.item())
    assert result.after.images == 8
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "net.safetensors")(batches[0]), net(batches[0]))
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 16
    assert "of the answers" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "net.cgm").is_file()
    assert (tmp_path / "pruned.cgm").is_file() == (width == 16)
    for file in tmp_path.glob("*.cgm"):
        engine = convgate.engine.load(file)
        torch.testing.assert_close(
            torch.from_numpy(engine(batches[0].numpy())), net(batches[0]).detach(), rtol=1e-4, atol=1e-4
        )
    assert not (tmp_path / "state.pt").exists()
    assert any("before" in line for line in said)
    assert any("round 4 of closing" in line for line in said) == (width == 16)


class Segmenter(nn.Module):
    """Logits [N, 5, H, W], or a dict of them."""

    def __init__(self, *, named=False):
        super().__init__()
        self.stem, self.named = nn.Conv2d(3, 32, 3, 2, 1), named
        self.blocks = nn.Sequential(*(BasicBlock(32, 32) for _ in range(4)))
        self.classify = nn.Conv2d(32, 5, 1)

    def forward(self, x):
        y = F.interpolate(self.classify(self.blocks(self.stem(x))), size=x.shape[2:])
        return {"out": y} if self.named else y


def test_a_segmenter_keeps_its_answers_at_every_position(tmp_path):
    torch.manual_seed(0)
    model, images = Segmenter().eval(), torch.randn(24, 3, 16, 24)
    net = gate(model, DualGating(masks="equal"), images[:1])
    with torch.no_grad():
        labels = model(images).argmax(1)
    labels[:, :4] = 5  # the classes are 0 to 4
    batches = [(x, y) for x, y in zip(images.split(8), labels.split(8), strict=True)]
    settings = Settings(small=0.3, small_size=0.5)
    result = finetune(net, batches, budget=0.7, steps=4, out=tmp_path, keep=0.0, labels=True, settings=settings)
    assert result.before.teacher_accuracy == 1.0
    assert 0.5 < result.after.share <= 0.7
    with torch.no_grad():
        agreed = (net(images[:8]).argmax(1) == model(images[:8]).argmax(1)).double()
    assert result.after.agreement == pytest.approx(agreed.mean().item())
    assert result.after.accuracy == pytest.approx(agreed[:, 4:].mean().item())
    assert (tmp_path / "pruned.cgm").is_file()


def test_an_output_that_is_not_logits_is_refused():
    images = torch.randn(4, 3, 16, 16)
    net = gate(Segmenter(named=True).eval(), DualGating(), images[:1])
    with pytest.raises(InputError, match="returns its logits alone"):
        finetune(net, [images], budget=0.7, steps=1)


def test_what_closed_for_every_image_is_taken_out(randomise, tmp_path):
    _, net, batches = tiny(randomise, 16)
    result = finetune(net, batches, budget=0.8, steps=4, out=tmp_path, keep=0.0)
    assert result.after.changing == 0
    engines = [convgate.engine.load(tmp_path / name) for name in ("net.cgm", "pruned.cgm")]
    runs = [engine.run(batches[0].numpy()) for engine in engines]
    torch.testing.assert_close(*(torch.from_numpy(run.outputs[0]) for run in runs), rtol=1e-4, atol=1e-4)
    assert runs[1].macs.max() < runs[0].macs.min()
    assert not runs[1].decisions
    assert engines[1].preparation == net.preparation


@WIDTHS
def test_a_run_that_was_killed_ends_in_the_same_weights(randomise, tmp_path, monkeypatch, width):
    _, whole, batches = tiny(randomise, width)
    finetune(whole, batches, budget=0.8, steps=12, out=tmp_path / "whole", keep=0.0)
    _, net, _ = tiny(randomise, width)
    step, steps = type(torch.optim.AdamW([nn.Parameter(torch.zeros(1))])).step, []

    def dying(self, *arguments):
        steps.append(1)
        if len(steps) > 7:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            finetune(net, batches, budget=0.8, steps=12, out=tmp_path / "killed", keep=0.0)
    _, again, _ = tiny(randomise, width)
    said = []
    with pytest.raises(InputError, match="another seed"):
        finetune(again, batches, budget=0.8, steps=12, seed=1, out=tmp_path / "killed", keep=0.0)
    finetune(again, batches, budget=0.8, steps=12, out=tmp_path / "killed", keep=0.0, say=said.append)
    assert said[0].startswith("going on from step 6")
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key


class Unrepeatable:
    """Batches in an order of its own, which nobody can seed."""

    def __init__(self, batches):
        self.batches, self.reads = batches, 0

    def __iter__(self):
        self.reads += 1
        return iter(self.batches[self.reads % 2 :])


def test_batches_that_cannot_be_repeated_are_told_of(randomise, tmp_path):
    def run(batches, steps, stop=None):
        _, net, held_out = tiny(randomise, n=32)
        said = []

        def watch(terms):
            if terms["step"] == stop:
                raise KeyboardInterrupt

        try:
            options = {"held_out": held_out[:1], "calibrated_on": held_out[:1], "out": tmp_path, "keep": 0.0}
            finetune(net, batches, budget=0.9, steps=steps, say=said.append, watch=watch, **options)
        except KeyboardInterrupt:
            return []
        return [line for line in said if line.startswith("WARNING")]

    _, _, batches = tiny(randomise, n=32)
    for loader, warnings in ((batches, 0), (Unrepeatable(batches), 1)):
        run(loader, 4, stop=3)
        assert (tmp_path / "state.pt").is_file()
        assert len(run(loader, 4)) == warnings


def test_all_points_of_the_curve_are_of_the_same_images(randomise, monkeypatch):
    monkeypatch.setattr("convgate.finetuning.batches._ON_THE_WAY", 8)
    _, net, batches = tiny(randomise, 16)
    result = finetune(net, batches[2:], held_out=batches[:2], budget=0.8, steps=4, keep=0.0)
    assert result.on_the_way
    assert [point.images for point in result.curve] == [8] * len(result.curve)
    assert len(result.curve) == 4
    assert result.after.images == 16
    assert result.curve[-1].share == pytest.approx(result.after.share)


def test_lost_answers_are_an_error(randomise, tmp_path):
    _, net, batches = tiny(randomise)
    with pytest.raises(BudgetError, match="answers stay"):
        finetune(net, batches, budget=0.6, steps=2, out=tmp_path, keep=1.01)
    assert (tmp_path / "net.safetensors").is_file()


def test_with_labels_accuracy_is_reported(randomise):
    model, net, batches = tiny(randomise, n=24)
    with torch.no_grad():
        labelled = [(x, model(x).argmax(1)) for x in batches]
    result = finetune(net, labelled, budget=0.9, steps=2, labels=True, keep=0.0)
    assert result.before.accuracy == result.before.teacher_accuracy == 1.0


@pytest.mark.parametrize(
    ("batches", "options", "said"),
    [
        ([], {}, "no images"),
        (iter([torch.zeros(2, 3, 16, 16)]), {}, "iterator"),
        ([torch.zeros(2, 3, 16, 16)], {"minutes": None}, "how long"),
        ([torch.zeros(2, 3, 16, 16)], {"budget": 1.5}, "budget"),
        ([torch.zeros(2, 3, 16, 16)], {"steps": 0}, "more than nothing"),
    ],
)
def test_what_it_cannot_take_is_said(randomise, batches, options, said):
    _, net, _ = tiny(randomise, n=8)
    with pytest.raises(InputError, match=said):
        finetune(net, batches, **{"budget": 0.8, **options})


@pytest.mark.parametrize(("width", "frozen"), [(4, "all"), (16, "all"), (16, "the last stage"), (16, "nothing")])
def test_what_is_frozen_stays_as_it_is(randomise, width, frozen):
    _, net, batches = tiny(randomise, width, n=32)
    parts = {"all": [net], "the last stage": [net.layer3, net.fc], "nothing": []}[frozen]
    for part in parts:
        part.requires_grad_(False)
    flags = {name: p.requires_grad for name, p in net.named_parameters()}
    gates = {id(p) for p in net.gate_parameters()}
    before = {n: p.detach().clone() for n, p in net.named_parameters() if not p.requires_grad and id(p) not in gates}
    finetune(net, batches, budget=0.9, steps=8, keep=0.0)
    assert {name: p.requires_grad for name, p in net.named_parameters()} == flags
    now = dict(net.named_parameters())
    assert all(torch.equal(weight, now[name]) for name, weight in before.items())
    assert bool(before) == (frozen != "nothing")


def test_the_callers_random_numbers_are_undisturbed(randomise):
    def draw():
        return float(torch.rand(())), random.random(), np.random.rand()

    _, net, batches = tiny(randomise, n=24)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    expected = draw()
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])
    finetune(net, batches, budget=0.9, steps=2, keep=0.0)
    assert draw() == expected


@pytest.mark.parametrize("labelled", [(3,), ()])
def test_images_of_which_none_is_labelled(randomise, tmp_path, monkeypatch, labelled):
    """Points of the curve are judged on the first of the images alone; here only a later one has labels."""
    monkeypatch.setattr("convgate.finetuning.batches._ON_THE_WAY", 8)
    torch.manual_seed(0)
    images = torch.randn(48, 3, 16, 16)
    net = gate(randomise(Segmenter(), images), DualGating(masks="equal", where="everywhere"), images[:1])
    labels = [torch.full((8, 8, 8), 0 if number in labelled else 255) for number in range(6)]
    pairs = list(zip(images.split(8), labels, strict=True))
    told = []
    settings = Settings(label_weight=1.0)
    options = {"labels": True, "held_out": pairs[2:], "out": tmp_path, "watch": told.append, "settings": settings}
    result = finetune(net, pairs[:2], budget=0.9, steps=4, keep=0.0, **options)
    assert (result.after.accuracy is None) == (not labelled)
    assert not any("accuracy" in terms for terms in told)
    assert "nan" not in (tmp_path / "report.html").read_text().lower()
    if labelled:
        assert "unknown" in (tmp_path / "report.html").read_text()
    assert "NaN" not in (tmp_path / "result.json").read_text()
