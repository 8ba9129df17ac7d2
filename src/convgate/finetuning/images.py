"""How a batch's images are changed before both networks see them."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["mixed", "smaller"]


def mixed(images: Tensor) -> Tensor:
    """Images [N, C, H, W], each mixed with that at the same place from the end, in a share of its own.

    Source: Beyer, Zhai, Royer, Markeeva, Anil, Kolesnikov: Knowledge distillation: a good teacher is patient and
    consistent, CVPR 2022, section 3 (the teacher sees the student's views; mixtures extend the images there are).
    """
    share = torch.rand(len(images), 1, 1, 1).to(images)
    return share * images + (1 - share) * images.flip(0)


def smaller(images: Tensor, share: float) -> Tensor:
    """Images scaled by about `share`, with sides that are multiples of 32 as far as they were."""
    height, width = (max(round(side * share / 32), 1) * 32 if side % 32 == 0 else side for side in images.shape[2:])
    if (height, width) == tuple(images.shape[2:]):
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", antialias=True)
