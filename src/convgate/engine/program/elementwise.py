"""Operations on single elements, and on two maps element by element."""

from dataclasses import dataclass

from convgate.engine.program.activation import NO_ACTIVATION, Activation
from convgate.engine.program.operation import ArrayName, Operation

__all__ = ["Activate", "Add", "Affine", "Arithmetic", "Multiply", "PRelu"]


@dataclass(frozen=True)
class Activate(Operation):
    """An activation of each element."""

    activation: Activation


@dataclass(frozen=True)
class PRelu(Operation):
    """x if x > 0 else slope * x, with a slope for each channel: `weight` names an array [channels]."""

    weight: ArrayName


@dataclass(frozen=True)
class Affine(Operation):
    """activation(inputs[0] * scale + shift) per channel: a norm that follows no convolution. Arrays [channels]."""

    scale: ArrayName
    shift: ArrayName
    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True)
class Add(Operation):
    """activation(inputs[0] + inputs[1]).

    Either may have one channel, one row or one column where the output has several; it is then the same in all of them.
    """

    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True)
class Multiply(Operation):
    """inputs[0] * inputs[1], spread as in `Add`."""


@dataclass(frozen=True)
class Arithmetic(Operation):
    """inputs[0] / inputs[1] (`divide`), or their `maximum` or `minimum`, spread as in `Add`."""

    arithmetic: str
