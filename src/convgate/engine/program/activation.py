"""Functions of single elements, with their parameters."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ACTIVATIONS", "NO_ACTIVATION", "Activation"]

ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "relu": (),
    "relu6": (),
    "hardswish": (),
    "silu": (),
    "sigmoid": (),
    "hardsigmoid": (),
    "leaky_relu": ("slope",),
    "elu": ("alpha", "scale", "input_scale"),
    "gelu": (),
    "gelu_tanh": (),
    "mish": (),
    "tanh": (),
    "softplus": ("beta", "threshold"),
    "clamp": ("low", "high"),
}
"""Functions of single elements, with the names of their parameters; `none` is the identity.

`elu` is scale * (x if x > 0 else alpha * (exp(input_scale * x) - 1)), so that it is CELU and SELU, too; `gelu_tanh` is
GELU's approximation by tanh; `softplus` and `leaky_relu` are as PyTorch has them; `clamp` is min(max(x, low), high),
where a limit may be infinite.
"""


@dataclass(frozen=True)
class Activation:
    """A function of single elements: one of `ACTIVATIONS`, with its parameters in their order.

    >>> Activation("leaky_relu", (0.1,)).keeps_zero
    True
    """

    name: str = "none"
    parameters: tuple[float, ...] = ()

    @property
    def keeps_zero(self) -> bool:
        """Whether zero stays zero, so that what a mask zeroed may go through it."""
        if self.name == "clamp":
            return self.parameters[0] <= 0 <= self.parameters[1]
        return self.name not in ("sigmoid", "hardsigmoid", "softplus")

    def __bool__(self) -> bool:
        return self.name != "none"

    def __str__(self) -> str:
        named = zip(ACTIVATIONS.get(self.name, ()), self.parameters, strict=False)
        return self.name + "".join(f" {name} {value:g}" for name, value in named)


NO_ACTIVATION = Activation()
"""The identity."""
