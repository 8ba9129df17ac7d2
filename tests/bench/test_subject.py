"""What is timed: calibrated networks that agree with their dense ones, and mistakes that are explained."""

import numpy as np
import pytest
import torch
from PIL import Image

from convgate import save
from convgate.bench.subject import prepare
from convgate.errors import BudgetError, CheckpointError, ConvgateError, DataError, InputError
from convgate.methods import METHODS
from convgate.preparation import Preparation

TINY = {"size": 16}


def test_a_model_by_name_is_calibrated_on_the_inputs_that_are_timed():
    subject = prepare("cifar_resnet8", "DualGating", 0.6, **TINY)
    assert subject.method["name"] == "DualGating"
    assert len(subject.inputs) == 8
    assert {x.shape for x in subject.inputs} == {(1, 3, 16, 16)}
    assert {x.dtype for x in subject.inputs} == {np.dtype("float32")}
    assert subject.gated_macs / subject.dense_macs == pytest.approx(0.6, rel=0.05)
    assert subject.dense_macs == subject.network.ledger.dense


def test_larger_batches_hold_as_many_images_together():
    assert [len(x) for x in prepare("cifar_resnet8", batch=3, **TINY).inputs] == [3, 3, 3]
    assert [len(x) for x in prepare("cifar_resnet8", batch=16, **TINY).inputs] == [16]


def test_the_seed_decides_and_the_callers_random_numbers_stay_his():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    first, again, other = (prepare("cifar_resnet8", seed=seed, **TINY) for seed in (1, 1, 2))
    assert torch.equal(torch.randn(3), expected)
    assert np.array_equal(first.inputs[0], again.inputs[0])
    assert not np.array_equal(first.inputs[0], other.inputs[0])
    pairs = zip(first.network.state_dict().values(), again.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_timed(method):
    # A gater that is not small beside the backbone leaves nothing to calibrate to.
    backbone, options = (
        ("cifar_resnet44", {"gater": "cifar_resnet8"}) if method == "GlobalGater" else ("cifar_resnet14", {})
    )
    subject = prepare(backbone, method, 0.8, options=options, **TINY)
    assert subject.method["name"] == method
    assert subject.gated_macs / subject.dense_macs == pytest.approx(0.8, rel=0.06)


def test_without_a_budget_it_is_one_that_the_gates_can_reach():
    """Half; half way from the base path's half and the first layer to all; none for a gater larger than the network."""
    assert prepare("cifar_resnet8", "BatchShaping", **TINY).macs_asked == 0.5
    halves = prepare("cifar_resnet8", "ChannelGating", options={"partitions": 2}, **TINY)
    least = halves.network.cost(halves.network.closed_decisions(1)).ratio.item()
    assert halves.macs_asked == pytest.approx((least + 1) / 2)
    assert 0.5 < least < halves.gated_macs / halves.dense_macs < 1
    gater = prepare("cifar_resnet8", "GlobalGater", **TINY)
    assert gater.macs_asked is None
    assert gater.gated_macs > gater.dense_macs


def test_options_reach_the_method():
    options = prepare("cifar_resnet8", options={"spatial": False}, **TINY).method["options"]
    assert options["spatial"] is False
    assert options["budget"] == 0.5


@pytest.mark.parametrize("macs", [None, 0.4])
def test_a_checkpoint_is_timed_as_it_was_saved_unless_a_budget_is_asked_for(tmp_path, make_small, macs):
    network, _ = make_small()
    path = tmp_path / "network.safetensors"
    save(network, path)
    subject = prepare(str(path), macs=macs)
    assert subject.macs_asked == macs
    images = torch.from_numpy(subject.inputs[0])
    opened = network.open_decisions(1)
    with torch.no_grad():
        torch.testing.assert_close(subject.dense(images), network.replay(images, opened))
        same = torch.equal(subject.network(images), network(images))
    assert same == (macs is None)
    if macs is not None:
        assert subject.gated_macs / subject.dense_macs == pytest.approx(macs, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "named", "error"),
    [
        ({"model": "resnet1800"}, "resnet1800", InputError),
        ({"model": "timm/nothing"}, "nothing", InputError),
        ({"model": "nothing.safetensors"}, "nothing.safetensors", CheckpointError),
        ({"model": "cifar_resnet8", "method": "magic"}, "magic", InputError),
        ({"model": "cifar_resnet8", "macs": 0.0}, "macs 0.0", InputError),
        ({"model": "cifar_resnet8", "macs": 1.5}, "macs 1.5", InputError),
        ({"model": "cifar_resnet8", "macs": 0.01, "size": 16}, "0.01", BudgetError),
        ({"model": "cifar_resnet8", "batch": 0}, "batch 0", InputError),
        ({"model": "cifar_resnet8", "size": 0}, "size 0", InputError),
        ({"model": "cifar_resnet8", "options": {"tiel": 2}}, "tiel", InputError),
    ],
)
def test_mistakes_are_explained(arguments, named, error):
    with pytest.raises(error, match=named):
        prepare(**arguments)


@pytest.mark.parametrize("wrong", [{"method": "DualGating"}, {"size": 16}, {"options": {"tile": 2}}])
def test_a_checkpoint_takes_no_method_and_no_size(tmp_path, small, wrong):
    path = tmp_path / "network.safetensors"
    save(small[0], path)
    with pytest.raises(ConvgateError, match="its own method"):
        prepare(str(path), **wrong)


OWN = """
from torch import nn

def net(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5),
    )
"""


def test_models_of_users_are_named_by_their_place(tmp_path, monkeypatch):
    (tmp_path / "users_net.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    options = {"where": "everywhere", "reduction": 1}
    subject = prepare("users_net.py:net", "DualGating", 0.9, options=options, model_options={"width": 16}, size=16)
    assert subject.dense[0].out_channels == 16
    path = tmp_path / "mine.safetensors"
    save(subject.network, path)
    with pytest.raises(CheckpointError, match="--architecture"):
        prepare(str(path))
    again = prepare(str(path), architecture="users_net.py:net", model_options={"width": 16})
    assert again.dense_macs == subject.dense_macs
    with pytest.raises(InputError, match="architecture is for a checkpoint"):
        prepare("cifar_resnet8", architecture="users_net.py:net")


def test_photographs_are_prepared_as_the_checkpoint_or_the_publisher_says(tmp_path):
    draw = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(draw.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / f"{number}.png")
    subject = prepare("cifar_resnet8", **TINY)
    path = tmp_path / "net.safetensors"
    save(subject.network, path)
    with pytest.raises(InputError, match=r"network\.preparation"):
        prepare(str(path), images=[str(tmp_path)])
    subject.network.preparation = Preparation((16, 16), (16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
    save(subject.network, path)
    assert [x.shape for x in prepare(str(path), batch=2, images=[str(tmp_path)]).inputs] == [(2, 3, 16, 16)] * 2
    inputs = np.concatenate(prepare(str(path), images=[str(tmp_path)]).inputs)
    expected = subject.network.preparation.read(sorted(tmp_path.glob("*.png")))
    np.testing.assert_array_equal(np.sort(inputs, 0), np.sort(expected, 0))
    with pytest.raises(DataError, match="not there"):
        prepare(str(path), images=[str(tmp_path / "nothing")])
