import pytest
import torch

from convgate.gating import (
    above_half,
    improved_semhash,
    logistic_straight_through,
    smooth_step,
    threshold_straight_through,
)
from convgate.gating.estimators import decide

TEMPERATURE = 0.66667  # DGNet (ICCV 2021) and its code: fixed, never annealed.


def sample(logits, seed=0, temperature=TEMPERATURE):
    torch.manual_seed(seed)
    return logistic_straight_through(logits, temperature)


def noise(shape, seed=0):
    """The logistic noise of DGNet's code, drawn from the same uniform numbers."""
    torch.manual_seed(seed)
    u = torch.rand(shape)
    return (u + 1e-8).log() - (1 - u + 1e-8).log()


def test_samples_are_one_where_logit_plus_logistic_noise_is_positive():
    logits = torch.randn(1000)
    mask = sample(logits)
    assert torch.equal(mask, (logits + noise(1000) >= 0).float())
    assert set(mask.tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("logit", [-3.0, -0.5, 0.0, 2.0])
def test_share_of_open_samples_is_the_sigmoid(logit):
    n = 40_000
    share = sample(torch.full((n,), logit)).mean().item()
    expected = torch.sigmoid(torch.tensor(logit)).item()
    assert share == pytest.approx(expected, abs=5 * (expected * (1 - expected) / n) ** 0.5)


def test_initial_bias_opens_88_percent():
    # DGNet's code: bias 2 means p(on) = sigmoid(2) = 0.881.
    assert sample(torch.full((40_000,), 2.0)).mean().item() == pytest.approx(0.881, abs=0.01)


@pytest.mark.parametrize("temperature", [0.1, TEMPERATURE, 2.0])
def test_gradient_of_a_sample_is_that_of_the_sigmoid(temperature):
    logits = torch.randn(500, dtype=torch.float32).requires_grad_()
    weight = torch.randn(500)
    (sample(logits, temperature=temperature) * weight).sum().backward()
    s = torch.sigmoid((logits.detach() + noise(500)) / temperature)
    torch.testing.assert_close(logits.grad, weight * s * (1 - s) / temperature)


def test_gradient_of_the_noise_free_mask_is_that_of_the_sigmoid():
    logits = torch.tensor([-2.0, -0.0, 0.0, 0.3]).requires_grad_()
    mask = threshold_straight_through(logits, TEMPERATURE)
    assert mask.tolist() == [0, 1, 1, 1]
    mask.sum().backward()
    s = torch.sigmoid(logits.detach() / TEMPERATURE)
    torch.testing.assert_close(logits.grad, s * (1 - s) / TEMPERATURE)


def test_evaluation_opens_at_zero():
    # DGNet's code: (logits >= 0).
    assert decide(torch.tensor([-1e-30, 0.0, 1e-30, float("-inf"), float("inf")])).tolist() == [0, 1, 1, 0, 1]


def test_extreme_logits_stay_binary_with_finite_gradients():
    logits = torch.tensor([-1e4, -80.0, 80.0, 1e4]).requires_grad_()
    mask = sample(logits)
    assert mask.tolist() == [0, 0, 1, 1]
    mask.sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_masks_have_the_logits_dtype_and_are_exactly_binary(dtype):
    mask = sample(torch.randn(5000).to(dtype))
    assert mask.dtype == dtype
    assert set(mask.tolist()) == {0.0, 1.0}


# -- the smooth step: CGNet's code ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_the_smooth_step_is_open_above_zero_and_learns_as_a_sigmoid(sparse):
    # CGNet's code: gt(sigmoid(alpha * x) - 0.5); the sparse gradient is zero where that is below 0, strictly.
    slope = 1.5
    logits = torch.tensor([-2.0, -0.1, 0.0, 0.1, 2.0]).requires_grad_()
    mask = smooth_step(logits, slope, sparse=sparse)
    assert mask.tolist() == above_half(logits, slope).tolist() == [0, 0, 0, 1, 1]
    mask.sum().backward()
    s = torch.sigmoid(slope * logits.detach())
    expected = slope * s * (1 - s)
    if sparse:
        expected[:2] = 0
    torch.testing.assert_close(logits.grad, expected)


def test_the_smooth_step_rounds_as_the_sigmoid_does():
    """In float32 the sigmoid of a tiny number is exactly 1/2: closed, in training as in evaluation."""
    logits = torch.tensor([1e-9, 1e-3, -1e-9, float("inf"), float("-inf")])
    assert above_half(logits, 2.0).tolist() == smooth_step(logits, 2.0).tolist() == [0, 1, 0, 1, 0]


# -- Improved SemHash: GaterNet's paper, section 3.2.2 ---------------------------------------------------------------


def semhash(logits, binary, dropout=0.0, seed=0):
    """(mask, the noisy logits that it was made of)."""
    torch.manual_seed(seed)
    mask = improved_semhash(logits, torch.tensor(binary), dropout)
    torch.manual_seed(seed)
    return mask, logits.detach() + torch.randn(logits.shape)


def saturating_sigmoid(x):
    return (1.2 * torch.sigmoid(x) - 0.1).clamp(0, 1)


def test_semhash_is_binary_for_some_samples_and_soft_for_the_others():
    mask, noisy = semhash(torch.randn(4, 300, 1, 1) * 2, [True, False, False, True])
    for sample, hard in enumerate([True, False, False, True]):
        if hard:
            assert torch.equal(mask[sample], (noisy[sample] > 0).float())
        else:
            torch.testing.assert_close(mask[sample], saturating_sigmoid(noisy[sample]))
    assert len(mask[1].unique()) > 100


def test_semhash_has_the_soft_masks_gradient_in_both_cases():
    logits = (torch.randn(2, 400) * 2).requires_grad_()
    weight = torch.randn(2, 400)
    mask, noisy = semhash(logits, [True, False])
    (mask * weight).sum().backward()
    s = torch.sigmoid(noisy)
    # sigma'(x) = 1.2 s - 0.1 leaves [0, 1] at |x| = ln 11.
    inside = noisy.abs() < torch.tensor(11.0).log()
    torch.testing.assert_close(logits.grad, weight * 1.2 * s * (1 - s) * inside)
    assert 0 < inside.float().mean() < 1


def test_semhash_drops_entries_without_scaling_the_others():
    logits = torch.randn(2, 20_000)
    whole, _ = semhash(logits, [True, False])
    dropped, _ = semhash(logits, [True, False], 0.25)
    gone = (dropped == 0) & (whole > 0)
    assert torch.equal(dropped[~gone], whole[~gone])
    assert (gone.sum() / (whole > 0).sum()).item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(semhash(logits, [True, False], 0.0)[0], whole)
