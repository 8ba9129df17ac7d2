"""A gate: a head that computes logits, an offset that calibration sets, an estimator that decides."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convgate.errors import InputError
from convgate.gating.estimators import decide

__all__ = ["Gate"]


class Gate(nn.Module):
    """Decides for each sample which units (tiles, channel groups, activations) of a site are computed.

    The gate computes in the head's own precision, also under autocast: a decision must not depend on how logits near
    zero were rounded. `offset` is added to the logits; it is 0 until `convgate.calibrate` sets it.

    Args:
        shape: of the offset: `GateSpec.offset_shape`, which does not depend on the size of the map. It is broadcast to
            the logits'.
        head: pooled feature -> logits; its method `macs(grid)` gives its cost per sample for a feature of that grid.
        estimator: logits -> mask in training; after the logits it gets what the gates of a network share, if anything.
        closed_at_zero: the rule in evaluation: a gate is open where the logit is >= 0, or, if this is true, > 0.

    Raises:
        InputError: a rule that is a function. The network, the engine and its kernels share one rule, so it is data.

    """

    offset: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        head: nn.Module,
        estimator: Callable[..., Tensor],
        closed_at_zero: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(closed_at_zero, bool):
            raise InputError(
                f"Gate(closed_at_zero={closed_at_zero!r}): the rule in evaluation is data, not a function. Give False "
                "(open where the logit is >= 0) or True (open where it is > 0), and let the head compute logits for "
                "which that is the decision"
            )
        self.head = head
        self.estimator = estimator
        self.closed_at_zero = closed_at_zero
        self.register_buffer("offset", torch.zeros(shape))

    def forward(
        self, pooled: Tensor, given: Tensor | None = None, shared: tuple[Any, ...] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """(mask, logits) for a pooled feature; or (`given`, None): a mask from elsewhere takes the decision's place."""
        if given is not None:
            return given, None
        with torch.autocast(pooled.device.type, enabled=False):
            logits = self.head(pooled.to(self.offset.dtype)) + self.offset
        if self.training:
            return self.estimator(logits, *shared), logits
        return decide(logits, closed_at_zero=self.closed_at_zero), logits
