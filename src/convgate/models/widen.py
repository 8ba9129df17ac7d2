"""The "wider" baseline of papers on gating: the same backbone with so many channels that it has as many parameters.

GaterNet (CVPR 2019, tables 1 and 3) compares each gated model with its backbone at "roughly the same number of
parameters" as the gated one; the paper does not say how the channels were chosen. Here all widths grow by one factor.
"""

from dataclasses import replace

import torch
from torch import nn

from convgate.errors import InputError
from convgate.models.create import ModelSpec

__all__ = ["count_parameters", "widened"]

_WIDEST = 1 << 16


def count_parameters(model: nn.Module | ModelSpec) -> int:
    """Number of parameters; of a spec without allocating them, nor drawing random numbers."""
    if isinstance(model, ModelSpec):
        with torch.device("meta"):
            model = model.create()
    return sum(parameter.numel() for parameter in model.parameters())


def widened(spec: ModelSpec, parameters: int) -> ModelSpec:
    """`spec` at the `width` whose number of parameters is closest to `parameters`.

    The model must have the option `width` (`create` names the options), with which its parameters grow.
    """
    if parameters < 1:
        raise InputError(f"widened(parameters={parameters}): give the number of parameters to match, at least 1")

    def at(width: int) -> ModelSpec:
        return replace(spec, options={**spec.options, "width": width})

    # Every fourth width suits every model (some must be even, some at least 4): the steps are refined at the end.
    low, high = 4, 8
    while count_parameters(at(high)) < parameters:
        if high >= _WIDEST:
            raise InputError(f"{spec.name} has no width with {parameters:,} parameters; give a smaller number")
        low, high = high, 2 * high
    while high - low > 4:
        middle = (low + high) // 8 * 4
        low, high = (middle, high) if count_parameters(at(middle)) < parameters else (low, middle)
    found = [at(width) for width in range(low, high + 1) if _exists(at(width))]
    return min(found, key=lambda candidate: abs(count_parameters(candidate) - parameters))


def _exists(spec: ModelSpec) -> bool:
    try:
        count_parameters(spec)
    except InputError:
        return False
    return True
