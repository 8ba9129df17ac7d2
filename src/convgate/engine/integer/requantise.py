"""From one scale to another by integers alone: a multiplier of 15 bits and a shift."""

import numpy as np
import numpy.typing as npt

from convgate.engine.check.integers import MOST_SHIFT
from convgate.errors import ProgramError

__all__ = ["brought", "multiplier_and_shift"]

_BITS = 15


def multiplier_and_shift(ratio: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """int32 multipliers and shifts for which m / 2^s is nearest to `ratio`, with m in [2^14, 2^15) where s allows.

    A ratio of 1 leaves every integer as it is. Ratios below 2^-32 lose bits, as shifts end at 46.

    Args:
        ratio: the scale of what is brought over the scale that it is brought to; any shape, at least 0.

    Raises:
        ProgramError: a ratio of 2^14 or more, or one that is not a finite number.

    >>> multiplier_and_shift([1.0, 0.3])
    (array([16384, 19661], dtype=int32), array([14, 16], dtype=int32))

    """
    ratio = np.asarray(ratio, np.float64)
    if not bool(((ratio >= 0) & (ratio < 1 << (_BITS - 1))).all()):
        raise ProgramError(f"scales whose ratio is not below {1 << (_BITS - 1)}: {ratio.max():g}")
    _, exponent = np.frexp(ratio)
    shift = np.minimum(_BITS - exponent, MOST_SHIFT)
    multiplier = np.rint(np.ldexp(ratio, shift)).astype(np.int64)
    full = multiplier == 1 << _BITS  # rounded up to a power of two
    multiplier, shift = np.where(full, multiplier >> 1, multiplier), np.where(full, shift - 1, shift)
    if bool((shift < 1).any()):
        raise ProgramError(f"scales whose ratio is not below {1 << (_BITS - 1)}: {ratio.max():g}")
    return multiplier.astype(np.int32), shift.astype(np.int32)


def brought(sums: np.ndarray, multiplier: npt.ArrayLike, shift: npt.ArrayLike) -> np.ndarray:
    """(sums * multiplier + 2^(shift - 1)) >> shift, exactly: int64, for int32 sums of any shape.

    The product has 46 bits and a sign. Where the shift is 17 or more, 32 bits are enough, as the floor of a floor is
    one: with sums = 2^16 high + low, it is (high * m + (low * m >> 16) + 2^(s-17)) >> (s - 16).

    >>> brought(np.array([-5, -3, 3, 5]), 1 << 14, 15).tolist()
    [-2, -1, 2, 3]
    """
    shift = np.asarray(shift, np.int64)
    product: np.ndarray = sums.astype(np.int64) * np.asarray(multiplier, np.int64)
    product += np.left_shift(1, shift - 1)
    return product >> shift
