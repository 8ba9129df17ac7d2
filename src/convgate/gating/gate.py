"""A gate: a head that computes logits, an offset that calibration sets, an estimator that decides."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convgate.gating.estimators import decide

__all__ = ["Gate"]


class Gate(nn.Module):
    """Decides for each sample which units (tiles, channel groups, activations) of a site are computed.

    The gate computes in the head's own precision whatever autocast says: a decision must not depend on how logits near
    zero were rounded. `offset` is added to the logits; it is 0 until `convgate.calibrate` sets it.

    Args:
        shape: of the offset, and of the mask without the batch; where the two differ (one threshold for a whole map),
            the offset is broadcast.
        head: pooled feature -> logits; it has an attribute `macs`, its cost per sample.
        estimator: logits -> mask in training; after the logits it gets what the gates of a network share, if anything.
        rule: logits -> mask in evaluation; by default 1 where the logit is >= 0.

    """

    offset: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        head: nn.Module,
        estimator: Callable[..., Tensor],
        rule: Callable[[Tensor], Tensor] = decide,
    ) -> None:
        super().__init__()
        self.head = head
        self.estimator = estimator
        self.rule = rule
        self.register_buffer("offset", torch.zeros(shape))

    def forward(
        self, pooled: Tensor, given: Tensor | None = None, shared: tuple[Any, ...] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """(mask, logits) for a pooled feature; or (`given`, None): a mask from elsewhere takes the decision's place."""
        if given is not None:
            return given, None
        with torch.autocast(pooled.device.type, enabled=False):
            logits = self.head(pooled.to(self.offset.dtype)) + self.offset
        return (self.estimator(logits, *shared) if self.training else self.rule(logits)), logits
