"""The gates' heads against DGNet (ICCV 2021) and its code."""

import pytest
import torch
import torch.nn.functional as F

from convgate.errors import InputError
from convgate.gating import ChannelHead, Gate, SpatialHead, logistic_straight_through
from convgate.gating.pooling import global_mean


@pytest.mark.parametrize("grid", [(7, 7), (4, 4), (4, 5), (1, 1)])
@pytest.mark.parametrize("size", [(14, 14), (7, 7), (9, 5)])
def test_spatial_head_pools_to_the_grid_and_convolves(grid, size):
    torch.manual_seed(0)
    head = SpatialHead(6, grid)
    x = torch.randn(2, 6, *size)
    expected = F.conv2d(F.adaptive_avg_pool2d(x, grid), head.conv.weight, head.conv.bias, padding=1)
    torch.testing.assert_close(head(x), expected)
    assert head(x).shape == (2, 1, *grid)
    assert head.macs == grid[0] * grid[1] * 6 * 9


@pytest.mark.parametrize("training", [True, False])
def test_channel_head_squeezes_by_four(training):
    torch.manual_seed(0)
    head = ChannelHead(18, 10).train(training)
    torch.nn.init.normal_(head.norm.bias)
    x = torch.randn(5, 18, 3, 4)
    norm = torch.nn.BatchNorm2d(4).train(training)
    norm.load_state_dict(head.norm.state_dict())
    hidden = F.relu(norm(F.conv2d(x.mean((2, 3), keepdim=True), head.reduce.weight)))
    torch.testing.assert_close(head(x), F.conv2d(hidden, head.expand.weight, head.expand.bias))
    assert head.reduce.weight.shape == (4, 18, 1, 1)
    assert head.reduce.bias is None
    # Cin * (Cin // 4) + (Cin // 4) * Cout
    assert head.macs == 18 * 4 + 4 * 10


def test_heads_begin_with_bias_two():
    assert SpatialHead(8, (2, 2)).conv.bias.tolist() == [2.0]
    assert ChannelHead(8, 3).expand.bias.tolist() == [2.0] * 3


def test_few_channels_leave_one_hidden_unit():
    assert ChannelHead(3, 5).reduce.out_channels == 1


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1, 1, 1)])
def test_global_mean_and_its_gradient_are_the_means(shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(global_mean(x, torch.float64), x.mean((2, 3), keepdim=True))
    assert torch.autograd.gradcheck(lambda t: global_mean(t, torch.float64), (x,))


def test_global_mean_of_bfloat16_has_the_asked_dtype_and_gives_back_its_own():
    x = torch.randn(2, 3, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    y = global_mean(x, torch.float32)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert torch.equal(x.grad.float(), torch.full_like(x, 1 / 16).float())


def gate(**options):
    torch.manual_seed(0)
    return Gate(
        "channel", (5, 1, 1), ChannelHead(8, 5, **options), lambda logits: logistic_straight_through(logits, 2 / 3)
    )


def test_gate_offset_is_added_to_the_logits():
    g = gate().eval()
    x = torch.randn(3, 8, 4, 4)
    _, before = g(x)
    g.offset.copy_(torch.arange(5.0).view(5, 1, 1))
    mask, after = g(x)
    torch.testing.assert_close(after, before + torch.arange(5.0).view(1, 5, 1, 1))
    assert torch.equal(mask, (after >= 0).float())
    assert "offset" in g.state_dict()


def test_gate_gives_back_a_given_mask_untouched():
    given = torch.zeros(3, 5, 1, 1)
    mask, logits = gate()(torch.randn(3, 8, 4, 4), given)
    assert mask is given
    assert logits is None


def test_gate_in_training_refuses_one_image():
    with pytest.raises(InputError, match="at least 2 images"):
        gate().train()(torch.randn(1, 8, 4, 4))


def test_gate_computes_in_its_own_precision_under_autocast():
    g = gate().eval()
    x = torch.randn(3, 8, 4, 4)
    plain = g(x)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = g(x)
    assert autocast[1].dtype == torch.float32
    assert torch.equal(plain[1], autocast[1])
