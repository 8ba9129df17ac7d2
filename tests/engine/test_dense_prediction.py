"""Segmenters and detectors on the engine: outputs by name, rows of anchors, any size, files."""

import numpy as np
import pytest
import torch
from tests import dense_networks, detectors
from torch.utils import _pytree as pytree

import convgate
from convgate.engine.outputs import Rows
from convgate.errors import InputError, LoweringError

IMAGES = [torch.rand(3, 60, 44, generator=torch.Generator().manual_seed(i)) for i in range(2)]


def agrees(engine, net, x):
    with torch.no_grad():
        expected, decisions = net.decide(x)
        cost = net.cost(decisions)
    run = engine.run(x.numpy(), given=decisions)
    for actual, tensor in zip(run.outputs, pytree.tree_leaves(expected), strict=True):
        assert actual.shape == tuple(tensor.shape)
        np.testing.assert_allclose(actual, tensor.numpy(), atol=1e-4 * float(tensor.abs().max()), rtol=0)
    np.testing.assert_array_equal(run.macs, cost.macs.numpy())
    return run


@pytest.mark.parametrize("name", dense_networks.NETWORKS)
def test_networks_from_images_to_maps(name, tmp_path):
    model = dense_networks.build(name)
    net = convgate.gate(model, convgate.DualGating(init="paper"), torch.zeros(1, 3, 48, 64))
    engine = convgate.compile(net, threads=1)
    engine.save(tmp_path / "net.cgm")
    loaded = convgate.engine.load(tmp_path / "net.cgm", threads=1)
    for size in ((48, 64), (64, 32)):
        x = torch.rand(2, 3, *size)
        with torch.no_grad():
            opened = pytree.tree_leaves(net.replay(x, net.open_decisions(2, size)))
            for a, b in zip(opened, pytree.tree_leaves(model(x)), strict=True):
                torch.testing.assert_close(a, b)
        run = agrees(engine, net, x)
        again = loaded.run(x.numpy(), given=run.decisions)
        for a, b in zip(run.outputs, again.outputs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_outputs_have_names():
    net = convgate.gate(dense_networks.build("DeepLabV3"), convgate.DualGating(), torch.zeros(1, 3, 32, 32))
    outputs = convgate.compile(net, threads=1)(np.zeros((1, 3, 32, 32), np.float32))
    assert {name: map_.shape for name, map_ in outputs.items()} == {"out": (1, 3, 32, 32), "aux": (1, 3, 32, 32)}


@pytest.mark.parametrize("name", ["FCOS", "Faster R-CNN"])
def test_the_part_of_a_detector(name, tmp_path):
    net = convgate.gate(detectors.build(name), convgate.DualGating(init="paper"), IMAGES)
    engine = convgate.compile(net, threads=1)
    engine.save(tmp_path / "part.cgm")
    loaded = convgate.engine.load(tmp_path / "part.cgm", threads=1)
    assert loaded.program.returns == engine.program.returns
    for size in ((64, 96), (96, 64)):
        x = torch.rand(1, 3, *size)
        agrees(engine, net.network, x)
        expected, actual = engine(x.numpy()), loaded(x.numpy())
        assert pytree.tree_structure(expected) == pytree.tree_structure(actual)
        for a, b in zip(pytree.tree_leaves(expected), pytree.tree_leaves(actual), strict=True):
            np.testing.assert_array_equal(a, b)
    found = net.run_on(engine, IMAGES)
    with torch.no_grad():
        expected = net(IMAGES)
    for a, b in zip(found, expected, strict=True):
        assert len(b["scores"])
        torch.testing.assert_close(a["scores"], b["scores"], atol=1e-5, rtol=1e-4)


def test_a_detector_that_is_not_gated():
    model = detectors.build("SSD")
    engine = convgate.compile(model, IMAGES, threads=1)
    maps, heads = engine(np.zeros((1, 3, 64, 64), np.float32))
    assert list(maps) == ["a", "b", "c"]
    with torch.no_grad():
        expected = model.head(list(model.backbone(torch.zeros(1, 3, 64, 64)).values()))
    np.testing.assert_allclose(heads["cls_logits"], expected["cls_logits"].numpy(), atol=1e-5)


def test_an_engine_runs_in_evaluation():
    net = convgate.gate(detectors.build("SSD"), convgate.DualGating(), IMAGES)
    with pytest.raises(InputError, match="eval"):
        net.train().run_on(None, IMAGES)


# -- rows --------------------------------------------------------------------------------------------------------------


class Head(torch.nn.Module):
    """A convolution, and what is done to its map."""

    def __init__(self, arrange):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.arrange = arrange

    def forward(self, x):
        return self.arrange(self.conv(x), self.conv(x[:, :, ::2, ::2]))


ARRANGED = {
    "anchors": lambda a, _: a.view(a.shape[0], 2, 3, *a.shape[2:]).permute(0, 3, 4, 1, 2).reshape(a.shape[0], -1, 3),
    "channels last": lambda a, _: a.permute(0, 2, 3, 1).reshape(a.shape[0], -1, 2),
    "flat": lambda a, _: a.flatten(2),
    "flat rows": lambda a, _: a.flatten(2).permute(0, 2, 1),
    "two levels": lambda a, b: torch.cat([a.flatten(2), b.flatten(2)], 2),
    "two levels of rows": lambda a, b: torch.cat([a.flatten(2).transpose(1, 2), b.flatten(2).transpose(1, 2)], dim=1),
    "with its map": lambda a, _: {"map": a, "rows": a.flatten(2)},
}


@pytest.mark.parametrize("arrange", ARRANGED.values(), ids=ARRANGED)
def test_maps_as_rows(arrange):
    model = Head(arrange).eval()
    engine = convgate.compile(model, torch.zeros(1, 3, 6, 8), threads=1)
    for size in ((6, 8), (8, 10)):
        x = torch.rand(2, 3, *size)
        with torch.no_grad():
            expected = model(x)
        actual = engine(x.numpy())
        for a, b in zip(pytree.tree_leaves(actual), pytree.tree_leaves(expected), strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-5)
        assert len(engine.run(x.numpy()).outputs) == len(pytree.tree_leaves(expected))


@pytest.mark.parametrize(
    "arrange",
    [
        lambda a, _: a.flatten(2) + 1,
        lambda a, _: a.permute(0, 2, 3, 1).reshape(a.shape[0], -1, 3).sigmoid(),
    ],
)
def test_rows_that_have_no_native_form(arrange):
    model = Head(arrange).eval()
    with pytest.raises(LoweringError):
        convgate.compile(model, torch.zeros(1, 3, 6, 8), threads=1)
    x = torch.rand(1, 3, 6, 8)
    with torch.no_grad():
        expected = model(x)
    engine = convgate.compile(model, x, threads=1, fallback="torch")
    np.testing.assert_allclose(engine(x.numpy()), expected.numpy(), atol=1e-5)


def test_rows_are_written_and_read():
    rows = Rows((0, 3), 4, across=True)
    assert Rows.parse(str(rows)) == rows
    with pytest.raises(ValueError, match="not how outputs"):
        Rows.parse("everything")
