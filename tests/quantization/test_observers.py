"""Ranges from what was observed."""

import numpy as np
import pytest

from convgate.errors import InputError
from convgate.quantization import MeanSquaredError, MinMax, Percentile
from convgate.quantization.observers import BINS

OBSERVERS = (MinMax(), Percentile(), MeanSquaredError())


def histogram(magnitudes):
    return np.histogram(magnitudes, BINS, (0, magnitudes.max()))[0]


@pytest.mark.parametrize("observer", OBSERVERS, ids=lambda o: type(o).__name__)
def test_a_limit_lies_in_what_was_seen_and_grows_with_it(observer):
    magnitudes = np.abs(np.random.default_rng(0).standard_normal(100_000))
    greatest = magnitudes.max()
    limit = observer.limit(greatest, histogram(magnitudes), 255)
    assert 0.5 * greatest < limit <= greatest
    assert observer.limit(2 * greatest, histogram(magnitudes), 255) == pytest.approx(2 * limit)


@pytest.mark.parametrize("observer", [Percentile(), MeanSquaredError()], ids=lambda o: type(o).__name__)
def test_one_magnitude_far_away_is_clipped(observer):
    magnitudes = np.append(np.random.default_rng(0).random(1_000_000), 100.0)
    assert observer.limit(100.0, histogram(magnitudes), 127) < 20


def test_the_least_squared_error_is_found():
    """Against the error of rounding and clipping the magnitudes themselves, for every limit that is tried."""
    magnitudes = np.abs(np.random.default_rng(0).laplace(size=20_000))
    greatest = magnitudes.max()
    limit = MeanSquaredError().limit(greatest, histogram(magnitudes), 15)

    def error(limit):
        step = limit / 15
        return ((np.clip(np.rint(magnitudes / step), 0, 15) * step - magnitudes) ** 2).mean()

    best = min(error(share * greatest) for share in np.linspace(0.05, 1, 100))
    assert error(limit) < 1.02 * best < error(greatest)


@pytest.mark.parametrize("percent", [0, -1, 100.5])
def test_percentages_out_of_range(percent):
    with pytest.raises(InputError, match="at most 100"):
        Percentile(percent)
