"""Multipliers and shifts, against whole numbers of any size."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convgate.engine.integer import brought, multiplier_and_shift
from convgate.errors import ProgramError


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**15 - 1), st.integers(1, 46))
def test_the_nearest_integer_with_halves_upwards(value, multiplier, shift):
    exact = Fraction(value * multiplier, 2**shift)
    expected = (exact + Fraction(1, 2)).__floor__()
    assert brought(np.array(value, np.int32), multiplier, shift) == expected


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**15 - 1), st.integers(17, 46))
def test_32_bits_are_enough_for_larger_shifts(value, multiplier, shift):
    """The form that the docstring gives to kernels."""
    high, low = value >> 16, value & 0xFFFF
    total = high * multiplier + (low * multiplier >> 16)
    rounded = (total + (1 << (shift - 17))) >> (shift - 16) if shift < 46 else (total + (1 << 29)) >> 30
    assert -(2**31) <= total < 2**31
    assert rounded == brought(np.array(value, np.int32), multiplier, shift)


@given(st.floats(2.0**-30, 2.0**13))
def test_a_ratio_is_met_to_15_bits(ratio):
    multiplier, shift = multiplier_and_shift(ratio)
    assert 2**14 <= multiplier < 2**15
    assert abs(int(multiplier) / 2 ** int(shift) / ratio - 1) <= 2**-15


def test_a_ratio_of_one_changes_nothing():
    values = np.array([-(2**31), -1, 0, 1, 2**31 - 1])
    np.testing.assert_array_equal(brought(values, *multiplier_and_shift(1.0)), values)


def test_ratios_at_the_limits():
    assert multiplier_and_shift(0.0)[0] == 0
    assert multiplier_and_shift(2.0**-50)[0] == 0
    assert multiplier_and_shift(np.nextafter(0.5, 0)) == (1 << 14, 15)  # rounded up to a power of two
    for ratio in (2.0**14, 2.0**14 * (1 - 2**-20), -0.1, np.nan, np.inf):
        with pytest.raises(ProgramError, match="ratio"):
            multiplier_and_shift(ratio)
