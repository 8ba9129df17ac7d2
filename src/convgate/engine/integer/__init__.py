"""The arithmetic of 8-bit programs, defined to the bit, and a reference in NumPy.

`requantise` is the specification of how sums become 8 bits; `reference` computes each operation by its definition, and
`network` runs whole programs with it. Kernels and the simulated accelerator compute the same integers.
"""

from convgate.engine.integer.masks import dilated
from convgate.engine.integer.network import IntegerNetwork, uses_integers
from convgate.engine.integer.requantise import brought, multiplier_and_shift

__all__ = ["IntegerNetwork", "brought", "dilated", "multiplier_and_shift", "uses_integers"]
