"""Detectors in 8-bit integers: their convolutional part, with scales that images as they prepare them choose."""

import numpy as np
import pytest
import torch
from tests.detectors import DETECTORS, build
from torch import nn
from torch.utils import _pytree as pytree

import convgate
from convgate import DualGating
from convgate.errors import InputError
from convgate.reading.given import given_to

SEED = torch.Generator().manual_seed(0)
IMAGES = [torch.rand(3, 60, 44, generator=SEED), torch.rand(3, 30, 70, generator=SEED)]


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request):
    return convgate.gate(build(request.param), DualGating(init="paper"), IMAGES).eval()


@torch.no_grad()
def test_the_part_computes_nearly_what_it_does_in_float32(detector):
    engine = convgate.quantize(detector, [IMAGES], threads=1)
    assert engine.precision == "int8"
    for image in IMAGES:
        prepared = given_to(detector.network, detector, [image])
        run = engine.run(prepared.numpy())
        expected = pytree.tree_leaves(detector.network.replay(prepared, run.decisions))
        for actual, wanted in zip(pytree.tree_leaves(engine(prepared.numpy())), expected, strict=True):
            assert np.linalg.norm(actual - wanted.numpy()) < 0.1 * np.linalg.norm(wanted.numpy())
        (found,) = detector.run_on(engine, [image])
        assert found["boxes"].shape[1] == 4


def test_one_in_a_wrapper_is_the_same_detector(detector):
    programs = [
        convgate.quantize(network, [IMAGES], threads=1).program for network in (detector, nn.DataParallel(detector))
    ]
    assert programs[0].values == programs[1].values


@torch.no_grad()
@pytest.mark.parametrize("name", DETECTORS)
def test_one_without_gates(name):
    model = build(name)
    gated = convgate.gate(model, DualGating(), IMAGES).eval()  # whose gates are all open
    engine = convgate.quantize(model, [(IMAGES, "targets")], threads=1)
    assert engine.precision == "int8"
    assert not engine.program.gates
    for image in IMAGES:
        prepared = given_to(gated.network, gated, [image])
        answers = (gated.network(prepared), engine(prepared.numpy()))
        for wanted, actual in zip(*map(pytree.tree_leaves, answers), strict=True):
            assert np.linalg.norm(actual - wanted.numpy()) < 0.1 * np.linalg.norm(wanted.numpy())


def test_a_classifier_is_not_called_with_lists():
    with pytest.raises(InputError, match=r"list of images \[C, H, W\].* other network give tensors \[N, C, H, W\]"):
        convgate.quantize(convgate.create_model("cifar_resnet8"), [[torch.rand(3, 32, 32)]])


def test_they_are_called_with_lists(detector):
    with pytest.raises(InputError, match=r"batch 0 for quantize\(\) is a Tensor; give a list of images"):
        convgate.quantize(detector, [torch.rand(1, 3, 64, 64)])
