"""Train a gated network inside of a LightningModule that knows nothing of gates."""

from typing import Any

import lightning as L
from torch import Tensor

from convgate.errors import InputError
from convgate.gated import GatedNetwork
from convgate.methods import Method
from convgate.training.own_loop import GatingLoss

__all__ = ["GatingCallback"]


class GatingCallback(L.Callback):
    """Adds a method's loss terms to what the module's `training_step` returns, and logs each as gating/NAME.

    The module's `training_step` stays as it is: it calls the gated network, which is one of its submodules, and returns
    the loss, or a mapping with "loss".

    Args:
        method: the method that the network was gated with.

    >>> import convgate
    >>> trainer = L.Trainer(callbacks=[GatingCallback(convgate.DualGating())], logger=False, accelerator="cpu")

    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.loss: GatingLoss | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        networks = [module for module in pl_module.modules() if isinstance(module, GatedNetwork)]
        if len(networks) != 1:
            raise InputError(
                f"GatingCallback: {type(pl_module).__name__} has {len(networks)} gated networks among its modules; it "
                "takes exactly one, made with gate() and assigned to an attribute"
            )
        steps = int(trainer.estimated_stepping_batches) * trainer.accumulate_grad_batches
        loss = GatingLoss(networks[0], self.method, steps=max(1, steps))
        loss.step = trainer.global_step * trainer.accumulate_grad_batches  # of a run that is resumed
        self.loss, step = loss, pl_module.training_step

        def with_terms(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            if result is None:  # the module skips this batch
                return None
            added = loss()
            pl_module.log_dict({f"gating/{name}": term for name, term in loss.terms.items()})
            return result + added if isinstance(result, Tensor) else {**result, "loss": result["loss"] + added}

        pl_module.training_step = with_terms  # type: ignore[method-assign]

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._leave(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._leave(pl_module)

    def _leave(self, pl_module: L.LightningModule) -> None:
        if self.loss is not None:
            self.loss.close()
            vars(pl_module).pop("training_step", None)
            self.loss = None
