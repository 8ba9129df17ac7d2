"""The batch-shaping distance against SciPy, by hand, and its gradient against finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from convgate.errors import InputError
from convgate.gating import batch_shaping
from convgate.gating.shaping import NORMALISATIONS, beta_cdf, beta_pdf

# (0.6, 0.4): the prior in the re-implementations. (0.9, 0.1): the example in Qualcomm's README.
PARAMETERS = [(0.6, 0.4), (0.9, 0.1), (0.1, 0.1), (0.5, 0.5), (1.0, 1.0), (1.0, 3.0), (2.0, 5.0), (30.0, 2.0)]


def points():
    """float64 in [0, 1], the ends included, dense near them."""
    near = torch.logspace(-30, -1, 500, dtype=torch.float64)
    inner = torch.linspace(0, 1, 3001, dtype=torch.float64)
    return torch.cat([inner, near, 1 - near])


@pytest.mark.parametrize(("a", "b"), PARAMETERS)
def test_distribution_function_is_scipys(a, b):
    x = points()
    assert np.abs(beta_cdf(x, a, b).numpy() - stats.beta.cdf(x.numpy(), a, b)).max() < 1e-8


@pytest.mark.parametrize(("a", "b"), PARAMETERS)
def test_density_is_scipys_clipped(a, b):
    x = points()
    expected = np.clip(stats.beta.pdf(x.numpy(), a, b), 1e-3, 100)  # the bounds of Qualcomm's code
    np.testing.assert_allclose(beta_pdf(x, a, b).numpy(), expected, rtol=1e-12)


def test_the_arcsine_law_is_exact():
    """Beta(1/2, 1/2) has the distribution function 2 / pi * asin(sqrt(x))."""
    x = points()
    assert (beta_cdf(x, 0.5, 0.5) - 2 / math.pi * x.sqrt().asin()).abs().max() < 1e-8


def test_the_distance_by_hand():
    # Beta(1, 1) is uniform: F(x) = x. Sorted: 0.1, 0.3, 0.8 against 1/4, 2/4, 3/4; and 0.2, 0.5, 0.9.
    x = torch.tensor([[0.3, 0.9], [0.1, 0.2], [0.8, 0.5]], dtype=torch.float64)
    first = 0.15**2 + 0.2**2 + 0.05**2
    second = 0.05**2 + 0 + 0.15**2
    expected = {"mean": (first + second) / 6, "gates": (first + second) / 3, "samples": (first + second) / 2}
    assert expected.keys() == set(NORMALISATIONS)
    for normalisation, value in expected.items():
        assert batch_shaping(x, 1.0, 1.0, normalisation).item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(("a", "b"), PARAMETERS)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_distance_is_the_definition_with_scipy(a, b, normalisation):
    x = torch.rand(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ordered = np.sort(x.numpy(), axis=0)
    squares = (np.arange(1, 21)[:, None] / 21 - stats.beta.cdf(ordered, a, b)) ** 2
    expected = {"mean": squares.mean(), "gates": squares.sum() / 20, "samples": squares.sum() / 4}[normalisation]
    assert batch_shaping(x, a, b, normalisation).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.4), (0.9, 0.1), (2.0, 5.0)])
def test_the_gradient_is_that_of_the_distance(a, b):
    """Where the density is not clipped."""
    generator = torch.Generator().manual_seed(1)
    x = (0.05 + 0.9 * torch.rand(7, 3, dtype=torch.float64, generator=generator)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: batch_shaping(x, a, b), x, eps=1e-6, atol=1e-5)


def test_the_gradient_is_the_formula_un_permuted():
    # 2 f(x_(i)) (F(x_(i)) - i / (N + 1)) / N for "gates", at the place that the value had before sorting.
    x = torch.tensor([0.7, 0.2, 0.4], dtype=torch.float64)[:, None].requires_grad_()
    batch_shaping(x, 0.6, 0.4).backward()
    rank = np.array([3, 1, 2])
    values = x.detach().numpy()[:, 0]
    law = stats.beta(0.6, 0.4)
    np.testing.assert_allclose(x.grad[:, 0].numpy(), 2 * law.pdf(values) * (law.cdf(values) - rank / 4) / 3, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("a", "b"), PARAMETERS)
def test_stable_at_both_ends(a, b, dtype):
    x = torch.tensor([0.0, 1.0, 1e-38, 1 - 1e-7, 0.0, 1.0])[:, None].to(dtype).requires_grad_()
    loss = batch_shaping(x, a, b)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()
    assert x.grad.dtype == dtype
    # |F - i / (N + 1)| is at most 1, so the gradient's bound is 2 * 100 / N.
    assert x.grad.abs().max() <= 200 / 6 * 1.01


def test_it_draws_values_to_the_distribution():
    torch.manual_seed(0)
    logits = torch.randn(400, 2, requires_grad=True)
    before = batch_shaping(torch.sigmoid(logits)).item()
    optimiser = torch.optim.Adam([logits], 0.05)
    for _ in range(500):
        optimiser.zero_grad()
        batch_shaping(torch.sigmoid(logits)).backward()
        optimiser.step()
    values = torch.sigmoid(logits).detach().numpy()
    assert batch_shaping(torch.from_numpy(values)).item() < before / 20
    for column in values.T:
        assert stats.kstest(column, stats.beta(0.6, 0.4).cdf).statistic < 0.05


def test_each_column_is_a_gate_of_its_own():
    x = torch.rand(9, 3, dtype=torch.float64)
    alone = sum(batch_shaping(x[:, i : i + 1]) for i in range(3))
    torch.testing.assert_close(batch_shaping(x), alone)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.4), (0.6, -1.0), (math.nan, 0.4), (0.6, math.inf)])
@pytest.mark.parametrize("function", [batch_shaping, beta_cdf, beta_pdf])
def test_parameters_that_no_beta_distribution_has_are_refused(function, a, b):
    with pytest.raises(InputError, match="finite and above 0"):
        function(torch.rand(4, 2), a, b)


def test_other_normalisations_and_shapes_are_refused():
    with pytest.raises(InputError, match=r"'all'.*mean, gates, samples"):
        batch_shaping(torch.rand(4, 2), normalisation="all")
    with pytest.raises(InputError, match=r"shape \[4\]"):
        batch_shaping(torch.rand(4))
