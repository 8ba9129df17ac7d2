import pytest
import torch
from torch import nn

from convgate.gating import base_path, complete
from convgate.gating.partial import base_weights, shuffle_channels, shuffled_order


def test_base_weights_by_hand():
    assert base_weights(3, 4, 2, grouped=False)[:, :, 0, 0].int().tolist() == [[1, 1, 0, 0]] * 3
    assert base_weights(4, 4, 2, grouped=True)[:, :, 0, 0].int().tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2
    assert base_weights(2, 3, 1, grouped=True).all()


def test_channels_are_shuffled_as_in_the_published_code():
    # CGNet's code, `channel_shuffle`: view(N, p, C / p, H, W), transpose the two, view(N, C, H, W).
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle_channels(x, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert shuffle_channels(x, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]
    for parts in (1, 2, 3, 6):
        assert torch.equal(shuffle_channels(x, parts), x[:, shuffled_order(6, parts)])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"bias": False, "stride": 2}, {"padding": 2, "padding_mode": "reflect"}], ids=str
)
def test_the_base_path_is_the_convolution_of_a_part_of_the_channels(grouped, shuffled, options, training):
    """Output by output: the convolution of an image whose other channels are zero."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 9, 3, **options).double().train(training)
    x = torch.randn(2, 6, 7, 8, dtype=torch.float64)
    y = base_path(x, conv, 3, grouped, shuffled)
    order = [0, 2, 4, 1, 3, 5] if shuffled else range(6)
    for out in range(9):
        chunk = out // 3 if grouped else 0
        kept = torch.zeros_like(x)
        for channel in list(order)[2 * chunk : 2 * chunk + 2]:
            kept[:, channel] = x[:, channel]
        torch.testing.assert_close(y[:, out], conv(kept)[:, out])


@pytest.mark.parametrize("group", [1, 2, 5])
def test_open_activations_are_full_and_closed_ones_base(group):
    torch.manual_seed(0)
    full, base = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    mask = (torch.rand(2, -(-5 // group), 3, 4) < 0.5).float()
    y = complete(full, base, mask, group)
    for c in range(5):
        assert torch.equal(y[:, c], torch.where(mask[:, c // group] > 0, full[:, c], base[:, c]))


def test_completing_keeps_the_features_dtype():
    full, base = torch.randn(2, 4, 3, 3, dtype=torch.bfloat16), torch.randn(2, 4, 3, 3, dtype=torch.bfloat16)
    assert complete(full, base, torch.ones(2, 4, 3, 3)).dtype == torch.bfloat16
