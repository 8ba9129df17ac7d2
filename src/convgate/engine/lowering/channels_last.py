"""Maps whose channels come last, [N, H, W, C]: what `permute` makes of a map, until it is permuted back.

The value stays the one whose channels come first; only what is known to be the same for both reads it so: functions of
single elements, sums and products, linear layers and layer norms over channels.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

from torch import Tensor

from convgate.engine.lowering import layers
from convgate.engine.lowering.draft import Context, Expanded, Symbol, Unsupported
from convgate.engine.program import LayerNorm

__all__ = ["both", "by_element", "layer_norm", "linear"]

Handler = Callable[..., Any]


def by_element(handlers: Mapping[Any, Handler]) -> dict[Any, Handler]:
    """The handlers of functions of single elements, which then take maps whose channels come last, too."""
    return {key: both(handler) for key, handler in handlers.items()}


def both(handler: Handler) -> Handler:
    """The same handler, also of maps whose channels come last."""

    @wraps(handler)
    def call(c: Context, *args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(argument, Symbol) and argument.last for argument in args):
            return handler(c, *args, **kwargs)
        return replace(handler(c, *(_first(argument) for argument in args), **kwargs), last=True)

    return call


def _first(argument: Any) -> Any:
    """An operand with its channels first."""
    if isinstance(argument, Expanded) or (isinstance(argument, Symbol) and not argument.last):
        raise Unsupported("channels that come last beside channels that come first")
    if isinstance(argument, Symbol):
        return replace(argument, last=False)
    if isinstance(argument, Tensor):
        if argument.dim() > 4:
            raise Unsupported(f"a constant of shape {list(argument.shape)}")
        return argument.reshape((1,) * (4 - argument.dim()) + tuple(argument.shape)).permute(0, 3, 1, 2)
    return argument


def linear(c: Context, x: Symbol, weight: Tensor, bias: Tensor | None = None) -> Symbol:
    """`torch.nn.functional.linear`; over channels that come last, a 1x1 convolution."""
    if not isinstance(x, Symbol) or not x.last:
        return layers.linear(c.draft, c.name, x, weight, bias)
    out = layers.convolve(c.draft, c.name, replace(x, last=False), weight[:, :, None, None], bias)
    return replace(out, last=True)


def layer_norm(
    c: Context,
    x: Symbol,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Symbol:
    """`torch.nn.functional.layer_norm` over channels that come last, or over the channels of a vector."""
    if not isinstance(x, Symbol) or not (x.last or len(x.shape) == 1) or tuple(normalized_shape) != x.shape[:1]:
        raise Unsupported("a layer norm over something else than channels")
    first = replace(x, last=False)
    c.draft.value_of(first)
    out = c.draft.new(c.name, x.shape)
    scale, shift = (
        c.draft.array(f"{c.name}.{key}", array) if array is not None else ""
        for key, array in (("scale", weight), ("shift", bias))
    )
    c.draft.emit(LayerNorm((first.value,), out.value, scale, shift, float(eps)))
    return replace(out, last=x.last)
