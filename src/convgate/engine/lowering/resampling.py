"""Feature maps in another size: `torch.nn.functional.interpolate` and its modules."""

import math
from typing import Any

from convgate.engine.lowering import layers
from convgate.engine.lowering.draft import Context, Symbol, Unsupported
from convgate.engine.program import Interpolate, PixelShuffle, PixelUnshuffle

__all__ = ["interpolate", "module", "pixel_shuffle", "pixel_unshuffle"]

_MODES = ("nearest", "nearest-exact", "bilinear")


def interpolate(
    c: Context,
    x: Symbol,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Symbol:
    """`torch.nn.functional.interpolate` of a map."""
    value = c.draft.value_of(x)
    if len(x.shape) != 3 or mode not in (*_MODES, "area") or antialias:
        raise Unsupported(f"an interpolation of mode {mode!r}" + (" with antialiasing" if antialias else ""))
    scales = (0.0, 0.0)
    if size is not None:
        rows, columns = (size, size) if isinstance(size, int) else size
    else:
        given = (scale_factor, scale_factor) if isinstance(scale_factor, int | float) else tuple(scale_factor)
        rows, columns = (math.floor(n * s) for n, s in zip((value.height, value.width), given, strict=True))
        # The ratio of the sizes and a whole scale are the same.
        if not recompute_scale_factor or all(s == int(s) for s in given):
            scales = float(given[0]), float(given[1])
    if mode == "area":
        return layers.pool_to_grid(c.draft, c.name, x, (rows, columns))
    out = c.draft.new(c.name, (value.channels, rows, columns))
    fixed = (0, 0) if any(scales) else (int(rows), int(columns))
    c.draft.emit(Interpolate((x.value,), out.value, mode, bool(align_corners), scales, fixed))
    return out


def module(c: Context, m: Any, x: Symbol) -> Symbol:
    """`torch.nn.Upsample` and those that are one."""
    return interpolate(c, x, m.size, m.scale_factor, m.mode, m.align_corners, m.recompute_scale_factor)


def pixel_shuffle(c: Context, x: Symbol, upscale_factor: int) -> Symbol:
    """`torch.nn.functional.pixel_shuffle`."""
    value, f = c.draft.value_of(x), upscale_factor
    out = c.draft.new(c.name, (value.channels // f**2, value.height * f, value.width * f))
    c.draft.emit(PixelShuffle((x.value,), out.value, f))
    return out


def pixel_unshuffle(c: Context, x: Symbol, downscale_factor: int) -> Symbol:
    """`torch.nn.functional.pixel_unshuffle`."""
    value, f = c.draft.value_of(x), downscale_factor
    out = c.draft.new(c.name, (value.channels * f**2, value.height // f, value.width // f))
    c.draft.emit(PixelUnshuffle((x.value,), out.value, f))
    return out
