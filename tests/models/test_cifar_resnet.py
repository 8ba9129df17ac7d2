import pytest
import torch

from convgate.errors import InputError
from convgate.models import CifarResNet


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (32, 464_154), (56, 853_018), (110, 1_727_962)])
def test_option_a_has_the_papers_parameters(depth, parameters):
    # He et al. 2016, table 6: 0.27M, 0.46M, 0.85M, 1.7M; exact by the layers' shapes.
    model = CifarResNet(depth, shortcut="A")
    assert sum(p.numel() for p in model.parameters()) == parameters
    convs = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convs) + 1 == depth


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("size", [(32, 32), (4, 4), (17, 9)])
def test_shapes(shortcut, size):
    model = CifarResNet(8, num_classes=7, shortcut=shortcut, width=4).eval()
    assert model(torch.zeros(2, 3, *size)).shape == (2, 7)


def test_padded_shortcut_subsamples_and_pads_half_before_and_half_after():
    block = CifarResNet(8, shortcut="A", width=4).eval().layer2[0]
    x = torch.randn(2, 4, 6, 6)
    y = block.downsample(x)
    assert y.shape == (2, 8, 3, 3)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 6:].any()


def test_stem_stride_halves_every_map():
    model = CifarResNet(8, stem_stride=2).eval()
    assert model.layer3(model.layer2(model.layer1(model.conv1(torch.zeros(1, 3, 32, 32))))).shape[2:] == (4, 4)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 21},
        {"stages": 5},
        {"squeeze": 0},
        {"depth": 2},
        {"depth": -4},
        {"shortcut": "C"},
        {"num_classes": 0},
        {"width": 0},
        {"stem_stride": 0},
    ],
    ids=str,
)
def test_bad_options_are_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        CifarResNet(**options)
