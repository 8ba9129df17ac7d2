import pytest
import torch
from torch import nn

from convgate.errors import InputError
from convgate.models.parts import SqueezeExcite, initialise, require_sizes


def test_squeeze_and_excitation_rescales_channels():
    torch.manual_seed(0)
    unit, x = SqueezeExcite(32, 8), torch.randn(2, 32, 5, 4)
    assert unit.down.out_channels == 4
    mean = x.mean((2, 3))
    hidden = torch.relu(mean @ unit.down.weight.flatten(1).T + unit.down.bias)
    scale = torch.sigmoid(hidden @ unit.up.weight.flatten(1).T + unit.up.bias)
    torch.testing.assert_close(unit(x), x * scale[:, :, None, None])


def test_few_channels_are_squeezed_into_one():
    assert SqueezeExcite(4, 16).down.out_channels == 1


def test_initialisation_has_the_variance_of_he_et_al():
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 128, 3)
    initialise(nn.Sequential(conv))
    assert abs(float(conv.weight.detach().var()) * 9 * 128 / 2 - 1) < 0.05
    assert not conv.bias.any()


@pytest.mark.parametrize("value", [0, -1, 1.5, "4"])
def test_sizes_are_whole_numbers_of_at_least_one(value):
    require_sizes(nn.Identity(), width=1)
    with pytest.raises(InputError, match=r"Identity\(width="):
        require_sizes(nn.Identity(), width=value)
