"""The gates' heads against DGNet (ICCV 2021) and its code."""

import pytest
import torch
import torch.nn.functional as F

from convgate.errors import InputError
from convgate.gating import (
    ChannelHead,
    Gate,
    LinearHead,
    SpatialHead,
    ThresholdHead,
    logistic_straight_through,
)


@pytest.mark.parametrize("grid", [(7, 7), (4, 5), (1, 1)])
def test_spatial_head_convolves_the_tile_means(grid):
    torch.manual_seed(0)
    head = SpatialHead(6)
    pooled = torch.randn(2, 6, *grid)
    torch.testing.assert_close(head(pooled), F.conv2d(pooled, head.conv.weight, head.conv.bias, padding=1))
    assert head(pooled).shape == (2, 1, *grid)
    assert head.macs(grid) == grid[0] * grid[1] * 6 * 9


@pytest.mark.parametrize("training", [True, False])
def test_channel_head_squeezes_by_four(training):
    torch.manual_seed(0)
    head = ChannelHead(18, 10).train(training)
    torch.nn.init.normal_(head.norm.bias)
    pooled = torch.randn(5, 18, 1, 1)
    norm = torch.nn.BatchNorm2d(4).train(training)
    norm.load_state_dict(head.norm.state_dict())
    hidden = F.relu(norm(F.conv2d(pooled, head.reduce.weight[:, :, None, None])))
    expected = F.conv2d(hidden, head.expand.weight[:, :, None, None], head.expand.bias)
    torch.testing.assert_close(head(pooled), expected)
    assert head.reduce.weight.shape == (4, 18)
    assert head.reduce.bias is None
    # Cin * (Cin // 4) + (Cin // 4) * Cout
    assert head.macs((1, 1)) == 18 * 4 + 4 * 10


@pytest.mark.parametrize("build", [lambda **o: SpatialHead(8, **o).conv, lambda **o: ChannelHead(8, 3, **o).expand])
def test_a_whole_head_is_its_bias(build):
    layer = build(bias=5.0)
    assert set(layer.bias.tolist()) == {5.0}
    assert 0 < layer.weight.abs().max() < 2e-3
    assert build(bias=2.0, init="paper").weight.std() > 0.1


def test_few_channels_leave_one_hidden_unit():
    assert ChannelHead(3, 5).reduce.out_features == 1


def test_the_hidden_layers_size_can_be_given():
    head = ChannelHead(18, 10, hidden=16)
    assert head.reduce.out_features == 16
    assert head.macs((1, 1)) == 18 * 16 + 16 * 10


def test_linear_head_reads_features():
    head = LinearHead(8, 5, bias=0.5)
    features = torch.randn(3, 8)
    expected = features @ head.linear.weight.T + 0.5
    torch.testing.assert_close(head(features), expected[:, :, None, None])
    assert head.macs((1, 1)) == 40


def test_what_gates_share_reaches_the_estimator():
    g = Gate((5, 1, 1), LinearHead(8, 5), lambda logits, a, b: logits * 0 + a - b)
    mask, _ = g.train()(torch.randn(3, 8), None, (3.0, 2.0))
    assert torch.equal(mask, torch.ones(3, 5, 1, 1))
    mask, logits = g.eval()(torch.randn(3, 8), None, ())
    assert torch.equal(mask, (logits >= 0).float())


def gate(**options):
    torch.manual_seed(0)
    return Gate((5, 1, 1), ChannelHead(8, 5, **options), lambda logits: logistic_straight_through(logits, 2 / 3))


def test_gate_offset_is_added_to_the_logits():
    g = gate().eval()
    x = torch.randn(3, 8, 1, 1)
    _, before = g(x)
    g.offset.copy_(torch.arange(5.0).view(5, 1, 1))
    mask, after = g(x)
    torch.testing.assert_close(after, before + torch.arange(5.0).view(1, 5, 1, 1))
    assert torch.equal(mask, (after >= 0).float())
    assert "offset" in g.state_dict()


def test_gate_gives_back_a_given_mask_untouched():
    given = torch.zeros(3, 5, 1, 1)
    mask, logits = gate()(torch.randn(3, 8, 1, 1), given)
    assert mask is given
    assert logits is None


def test_gate_in_training_refuses_one_image():
    with pytest.raises(InputError, match="at least 2 images"):
        gate().train()(torch.randn(1, 8, 1, 1))


def test_gate_computes_in_its_own_precision_under_autocast():
    g = gate().eval()
    x = torch.randn(3, 8, 1, 1)
    plain = g(x)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = g(x)
    assert autocast[1].dtype == torch.float32
    assert torch.equal(plain[1], autocast[1])


@pytest.mark.parametrize("group", [1, 2, 3, 4, 9])
def test_threshold_head_averages_what_exceeds_the_thresholds(group):
    torch.manual_seed(0)
    head = ThresholdHead(5, group=group, threshold=0.5).double().eval()
    head.threshold.data += torch.arange(5.0)
    head.norm.running_mean.normal_()
    head.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    logits = head(x)
    normal = (x - head.norm.running_mean.view(5, 1, 1)) / (head.norm.running_var.view(5, 1, 1) + 1e-5).sqrt()
    for first in range(0, 5, group):
        members = range(first, min(first + group, 5))
        expected = torch.stack([normal[:, c] - 0.5 - c for c in members]).mean(0)
        torch.testing.assert_close(logits[:, first // group], expected)
    assert logits.shape == (2, -(-5 // group), 3, 4)
    assert head.macs((1, 1)) == 0


def test_threshold_head_begins_at_its_threshold_with_pytorchs_batch_norm():
    head = ThresholdHead(3, threshold=-6.0)
    assert head.threshold.tolist() == [-6.0] * 3
    assert (head.norm.eps, head.norm.momentum, head.norm.affine) == (1e-5, 0.1, False)


def test_a_rule_that_is_a_function_is_refused():
    with pytest.raises(InputError, match="is data, not a function"):
        Gate((3, 1, 1), LinearHead(8, 3), torch.sigmoid, lambda logits: logits)


def test_a_gates_rule_decides_in_evaluation_and_its_offset_may_be_broadcast():
    g = Gate((3, 1, 1), ThresholdHead(3), torch.sigmoid, closed_at_zero=True).eval()
    x = torch.tensor([0.0, 1.0, -1.0]).view(1, 3, 1, 1).expand(2, 3, 2, 2)
    assert g(x)[0][0, :, 0, 0].tolist() == [0, 1, 0]
    g.offset[2] = 2
    assert g(x)[0][1, :, 1, 1].tolist() == [0, 1, 1]
    assert g.train()(x)[0].shape == (2, 3, 2, 2)
