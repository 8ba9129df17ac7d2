"""The page's example, as written: a method of a reader's own, in one piece of code."""

import re
from pathlib import Path

import pytest
import torch

from convgate import gate
from convgate.methods import METHODS
from convgate.models import create

TEXT = (Path(__file__).parents[2] / "docs" / "adding-a-method.md").read_text()


@pytest.fixture(scope="module")
def scope(tmp_path_factory):
    """What the page's code defines, and its folder."""
    folder = tmp_path_factory.mktemp("page")
    found: dict = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.manual_seed(0)
        for code in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
            exec(compile(code, "adding-a-method.md", "exec"), found)
    yield found
    METHODS.pop("BrightnessGating")


def test_it_gates_calibrates_and_counts(scope):
    net, images = scope["net"], scope["images"]
    with torch.no_grad():
        spent = net.cost(net.decide(images)[1])
    assert float(spent.ratio.mean()) == pytest.approx(0.7, rel=0.005)
    assert scope["run"].macs.tolist() == spent.macs.tolist()
    assert scope["cost"].macs.shape == (8,)


@torch.no_grad()
def test_it_is_loaded_as_it_was_saved(scope):
    net, again, images = scope["net"], scope["again"], scope["images"]
    assert torch.equal(net(images), again(images))
    assert again.plan.method == {"name": "BrightnessGating", "options": {"tiles": 4, "weight": 0.1}}


@torch.no_grad()
def test_open_and_closed(scope, randomise):
    images = scope["images"]
    model = randomise(create("cifar_resnet8"), images)
    net = gate(model, scope["BrightnessGating"](tiles=3), images)
    torch.testing.assert_close(net.replay(images, net.open_decisions(8)), model(images))
    closed = net.replay(images, net.closed_decisions(8))
    for stage in (model.layer1, model.layer2, model.layer3):
        for block in stage:
            torch.nn.init.zeros_(block.bn2.weight)
            torch.nn.init.zeros_(block.bn2.bias)
    torch.testing.assert_close(closed, model(images))


def test_it_learns(scope):
    images, method = scope["images"], scope["BrightnessGating"]()
    net = gate(create("cifar_resnet8"), method, images).train()
    logits, decisions = net.decide(images)
    (logits.square().mean() + sum(method.penalty(decisions, net.ledger, 0.0).values())).backward()
    assert all(p.grad is not None for p in net.gate_parameters())


def test_the_files_that_the_page_names_exist():
    root = Path(__file__).parents[2]
    for name in ("src/convgate/methods/__init__.py", "tests/methods/test_every_method.py", "docs/design/masks.md"):
        assert (root / name).is_file()
