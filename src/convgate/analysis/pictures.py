"""Test images and cost maps as small PNGs inside the page."""

import base64
import io
from typing import Any

import torch
from torch import Tensor

__all__ = ["colour_bar", "colours", "image_uri", "map_uri"]

LARGEST = 192
_COLOURS = "YlGnBu"
# Light where little is spent and dark where much: even in grey print, and for colour-blind readers.


def image_uri(image: Tensor) -> str:
    """A data URI of an image, uint8 [C, H, W]: grey unless it has three channels; no side above `LARGEST` pixels."""
    if len(image) == 3:
        return _png(image.permute(1, 2, 0))
    return _png(image.float().mean(0).round().byte())


def map_uri(values: Tensor, greatest: float) -> str:
    """A data URI of a map, float [H, W], coloured from 0 to `greatest`."""
    return _png(colours(values / greatest))


def colour_bar() -> str:
    """A data URI of the colours of `map_uri` from left to right."""
    return _png(colours(torch.linspace(0, 1, LARGEST).view(1, -1)))


def colours(shares: Tensor) -> Tensor:
    """Shares in [0, 1], float [H, W], to uint8 [H, W, 3]."""
    import matplotlib

    rgba = matplotlib.colormaps[_COLOURS](shares.clamp(0, 1).numpy(), bytes=True)
    return torch.from_numpy(rgba)[..., :3].contiguous()


def _png(pixels: Tensor) -> str:
    from PIL import Image

    picture: Any = Image.fromarray(pixels.cpu().contiguous().numpy())
    picture.thumbnail((LARGEST, LARGEST))
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
