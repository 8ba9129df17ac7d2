"""Train a gated network in a loop that is not convgate's: a plain one, timm's training script, any other.

A `GatingLoss` watches the network: it tells the method how far the training is, and keeps the decisions of the last
training batch, so that the loss can be computed where only the network's output is known.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convgate.errors import InputError
from convgate.gated import GatedNetwork
from convgate.gating import Decisions
from convgate.methods import Method

__all__ = ["GatingLoss"]


class GatingLoss:
    """What a method adds to the task loss, as one scalar per training step.

    Args:
        network: the gated network, alone or inside of a larger model (DDP, a pipeline of modules, ..).
        method: the method that it was gated with; its terms depend on how far the training is.
        steps: how many steps (calls of the network in training) the whole training takes.

    Raises:
        InputError: `network` is not a `GatedNetwork`, or there are no steps.

    Attributes:
        terms: the terms of the last step, by name, detached: for logs.

    >>> import torch, convgate
    >>> from convgate.models import create
    >>> images, method = torch.randn(4, 3, 16, 16), convgate.DualGating()
    >>> net = convgate.gate(create("cifar_resnet8", width=4), method, images).train()
    >>> gating = GatingLoss(net, method, steps=100)                     # 1
    >>> criterion = gating.around(torch.nn.CrossEntropyLoss())          # 2
    >>> criterion(net(images), torch.tensor([0, 1, 2, 3])).backward()

    """

    def __init__(self, network: GatedNetwork, method: Method, *, steps: int) -> None:
        if not isinstance(network, GatedNetwork):
            raise InputError(f"GatingLoss() takes a network: give the GatedNetwork, not a {type(network).__name__}")
        if steps < 1:
            raise InputError(f"GatingLoss(steps={steps}): a training has at least 1 step")
        self.network = network
        self.method = method
        self.steps = steps
        self.step = 0
        self.terms: dict[str, Tensor] = {}
        self._decisions: Decisions | None = None
        self._unwrap = False
        self._hooks = (
            network.register_forward_pre_hook(self._before, with_kwargs=True),
            network.register_forward_hook(self._behind),
        )

    @property
    def progress(self) -> float:
        """The share of the training that is done, in [0, 1)."""
        return min(self.step, self.steps - 1) / self.steps

    def __call__(self, decisions: Decisions | None = None) -> Tensor:
        """The sum of the method's terms, a scalar; this ends the step.

        Args:
            decisions: what `network.decide` returned for the batch; None for those of the last call in training.

        Raises:
            InputError: the network was not called in training mode since the last step.

        """
        decisions = self._decisions if decisions is None else decisions
        if decisions is None:
            raise InputError(
                "GatingLoss: the network was not called in training mode since the last step; call it first"
            )
        terms = self.method.terms(decisions, self.network.convgate, self.network.ledger_for(decisions), self.progress)
        self.terms = {name: term.detach() for name, term in terms.items()}
        self._decisions = None
        self.step += 1
        device = next(self.network.parameters()).device
        return torch.stack([*terms.values()]).sum() if terms else torch.zeros((), device=device)

    def around(self, criterion: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A criterion that adds the method's terms to what `criterion` returns, in training; else it is the same."""

        def with_terms(*args: Any, **kwargs: Any) -> Tensor:
            loss = criterion(*args, **kwargs)
            return loss if self._decisions is None else loss + self()

        return with_terms

    def close(self) -> None:
        """Stop watching the network."""
        for hook in self._hooks:
            hook.remove()

    def _before(self, network: GatedNetwork, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        watched = network.training and torch.is_grad_enabled()
        self._unwrap = watched and not kwargs.get("return_decisions", False)
        if watched:
            self.method.schedule(network.convgate, self.progress)
            kwargs = {**kwargs, "return_decisions": True}
        return args, kwargs

    def _behind(self, network: GatedNetwork, args: Any, output: Any) -> Any:
        if not (network.training and torch.is_grad_enabled()):
            return output
        values, self._decisions = output
        return values if self._unwrap else output
