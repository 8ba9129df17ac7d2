"""Batch shaping: a loss that draws each gate's values over a batch towards a Beta distribution.

Bejnordi, Blankevoort, Welling: Batch-Shaping for Learning Conditional Channel Gated Networks, ICLR 2020. With the
values x of one gate in a batch of N sorted ascending and F the Beta distribution's function, the Cramer-von-Mises
distance is the sum over i = 1..N of (i / (N + 1) - F(x_(i)))^2.
"""

import functools
import math
from typing import Any, Literal

import torch
from torch import Tensor

from convgate.errors import InputError

__all__ = ["NORMALISATIONS", "Normalisation", "batch_shaping", "beta_cdf", "beta_pdf"]

Normalisation = Literal["mean", "gates", "samples"]
NORMALISATIONS = ("mean", "gates", "samples")

_PDF = (1e-3, 100.0)
# The density is clipped to these, for the gradient: it has poles at 0 and 1 if a or b is below 1. Source: Qualcomm's
# code.
_REACH, _STEPS = 20.0, 4096
# The table spans logits from -20 to 20; beyond them the next term of F's series is 2e-9 of the first.


def batch_shaping(x: Tensor, a: float = 0.6, b: float = 0.4, normalisation: Normalisation = "gates") -> Tensor:
    """The Cramer-von-Mises distance of each gate's values from Beta(a, b), over all gates: a scalar.

    Its gradient is 2 f(x_(i)) (F(x_(i)) - i / (N + 1)), with the density f clipped to [0.001, 100].

    Args:
        x: float [N, gates], one column per gate, in [0, 1]: probabilities, not samples of 0 and 1.
        a: first parameter of the distribution; above 0.
        b: second parameter of the distribution; above 0.
        normalisation: sources differ. "mean": over samples and over gates (Qualcomm's code); "gates": summed over
            gates, mean over samples (the FGC re-implementation); "samples": summed over samples, mean over gates
            (another re-implementation).

    Raises:
        InputError: a parameter that is not above 0, an unknown normalisation, or values of another shape.

    """
    if normalisation not in NORMALISATIONS:
        raise InputError(f"batch_shaping(normalisation={normalisation!r}): choose one of {', '.join(NORMALISATIONS)}")
    if x.dim() != 2:
        raise InputError(f"batch_shaping() was given values of shape {list(x.shape)}; give [samples, gates]")
    _check_parameters(a, b)
    distance: Tensor = _Distance.apply(x, a, b)
    n, gates = x.shape
    return distance / {"mean": n * gates, "gates": n, "samples": gates}[normalisation]


def beta_cdf(x: Tensor, a: float, b: float) -> Tensor:
    """The regularised incomplete beta function I_x(a, b), by a table; absolute error below 1e-8 in float64.

    Between nodes, which are even in logit(x), it is interpolated by the cubic that has its values and slopes there.
    Raises `InputError` unless `a` and `b` are above 0.
    """
    _check_parameters(a, b)
    values, slopes, low, high = _table_on(a, b, x.device, x.dtype)
    step = 2 * _REACH / _STEPS
    place = ((torch.logit(x).clamp(-_REACH, _REACH) + _REACH) / step).clamp(0, _STEPS)
    left = place.floor().clamp(max=_STEPS - 1).long()
    t = place - left
    inside = (
        values[left] * (1 + 2 * t) * (1 - t) ** 2
        + values[left + 1] * t**2 * (3 - 2 * t)
        + (slopes[left] * t * (1 - t) ** 2 - slopes[left + 1] * t**2 * (1 - t)) * step
    )
    edge = 1 / (1 + math.exp(_REACH))
    inside = torch.where(x < edge, low * x**a, inside)
    return torch.where(1 - x < edge, 1 - high * (1 - x) ** b, inside)


def beta_pdf(x: Tensor, a: float, b: float) -> Tensor:
    """The density of Beta(a, b), clipped to [0.001, 100] (infinities at 0 and 1 included).

    Raises `InputError` unless `a` and `b` are above 0.
    """
    _check_parameters(a, b)
    # xlogy: with a = 1 or b = 1 there is no pole, and 0 * log(0) is no number.
    poles = torch.xlogy(torch.full_like(x, a - 1), x) + torch.special.xlog1py(torch.full_like(x, b - 1), -x)
    return torch.exp(poles - _log_beta(a, b)).clamp(*_PDF)


class _Distance(torch.autograd.Function):
    """The sum over samples and gates; the gradient is found going forward, where all it takes is at hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: float, b: float) -> Tensor:
        n = x.shape[0]
        ordered, order = x.float().sort(dim=0) if x.dtype in (torch.float16, torch.bfloat16) else x.sort(dim=0)
        expected = torch.arange(1, n + 1, device=x.device, dtype=ordered.dtype)[:, None] / (n + 1)
        excess = beta_cdf(ordered, a, b) - expected
        if ctx.needs_input_grad[0]:
            gradient = torch.empty_like(ordered).scatter_(0, order, 2 * beta_pdf(ordered, a, b) * excess)
            ctx.save_for_backward(gradient.to(x.dtype))
        return excess.square().sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * gradients[0], None, None


def _check_parameters(a: float, b: float) -> None:
    if not (0 < a < math.inf and 0 < b < math.inf):
        raise InputError(f"Beta(a={a}, b={b}): both parameters of the distribution are finite and above 0")


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@functools.lru_cache(maxsize=16)
def _table_on(a: float, b: float, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, float, float]:
    values, slopes, low, high = _table(a, b)
    return values.to(device, dtype), slopes.to(device, dtype), low, high


@functools.lru_cache(maxsize=16)
def _table(a: float, b: float) -> tuple[Tensor, Tensor, float, float]:
    """F and its slope over logits at the nodes, float64; and the factors of x^a and (1 - x)^b at the two ends."""
    with torch.device("cpu"):
        logits = torch.linspace(-_REACH, _REACH, _STEPS + 1, dtype=torch.float64)
        x, rest = torch.sigmoid(logits), torch.sigmoid(-logits)
        logarithm = a * torch.log(x) + b * torch.log(rest) - _log_beta(a, b)
        # dF / dlogit = f(x) x (1 - x). The continued fraction converges fast on its own side of the mean.
        slopes = torch.exp(logarithm)
        below = slopes * _continued_fraction(x, a, b) / a
        above = 1 - slopes * _continued_fraction(rest, b, a) / b
        values = torch.where(x < (a + 1) / (a + b + 2), below, above)
    scale = math.exp(-_log_beta(a, b))
    return values, slopes, scale / a, scale / b


def _continued_fraction(x: Tensor, a: float, b: float, terms: int = 300) -> Tensor:
    """The continued fraction of the incomplete beta function, evaluated from its end. Source: DLMF 8.17.22."""
    fraction = torch.ones_like(x)
    for m in range(terms, 0, -1):
        k, odd = m // 2, m % 2
        if odd:
            d = -(a + k) * (a + b + k) / ((a + 2 * k) * (a + 2 * k + 1))
        else:
            d = k * (b - k) / ((a + 2 * k - 1) * (a + 2 * k))
        fraction = 1 + d * x / fraction
    return 1 / fraction
