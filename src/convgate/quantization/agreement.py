"""How many of a network's answers stay when it is computed in another precision."""

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from convgate.engine import Engine

__all__ = ["agreement"]


def agreement(exact: Engine, engine: Engine, batches: Iterable[Tensor], *, most: int = 100) -> float | None:
    """The share of images for which both engines' greatest logit is of the same class.

    Where the images chose the scales of the integers it is kind; it tells a network whose answers are lost.

    Args:
        exact: the engine to compare with, in float32.
        engine: the same network in another precision.
        batches: images [N, C, H, W] as the network takes them.
        most: how many images are looked at, to the end of a batch.

    Returns:
        A share in [0, 1]; None for a network that returns anything but logits [N, classes], and without images.

    """
    same = seen = 0
    for images in batches:
        x = np.ascontiguousarray(images.numpy(force=True))
        ours, theirs = exact(x), engine(x)
        if not isinstance(ours, np.ndarray) or ours.ndim != 2:
            return None
        same += int((ours.argmax(1) == theirs.argmax(1)).sum())
        seen += len(x)
        if seen >= most:
            break
    return same / seen if seen else None
