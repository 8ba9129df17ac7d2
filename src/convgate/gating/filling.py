"""What closed tiles may hold instead of zeros: what a cheap path makes of their mean."""

from typing import Any

from torch import Tensor, nn

from convgate.gating.masks import expand_tiles, map_size

__all__ = ["FillPath", "fill_closed"]


class FillPath(nn.Conv2d):
    """From the means over tiles to what the closed ones of them are filled with: a 1x1 convolution that starts at zero.

    [N, C, rows, columns] -> [N, O, rows, columns]. At the start closed tiles are filled with zeros, so that a network
    that has such paths computes what it does without them.
    """

    def __init__(self, channels: int, filled: int) -> None:
        super().__init__(channels, filled, 1)

    def reset_parameters(self) -> None:
        """Set all to zero."""
        for parameter in (self.weight, self.bias):
            assert parameter is not None
            nn.init.zeros_(parameter)


def fill_closed(x: Tensor, mask: Tensor, filling: Tensor) -> Tensor:
    """Add a value for each channel and tile to the positions of the closed tiles of a map.

    Args:
        x: the map [N, C, H, W], which is zero there.
        mask: of tiles, [N, 1, rows, columns]; 1 is open.
        filling: the values [N, C, rows, columns].

    >>> import torch
    >>> fill_closed(torch.zeros(1, 1, 1, 4), torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[5.0, 7.0]]]]))
    tensor([[[[5., 5., 0., 0.]]]])

    """
    closed: Any = 1 - mask.to(filling.dtype)
    return x + expand_tiles(filling * closed, map_size(x)).to(x.dtype)
