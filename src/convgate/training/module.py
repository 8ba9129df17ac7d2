"""The Lightning module: task loss plus the method's terms plus a teacher's.

Noise depends on seed, epoch and step alone.
"""

import random
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.data import Augmentation, ImageSet, normalise
from convgate.gated import FixedNetwork, GatedNetwork
from convgate.methods import Method
from convgate.recipes.stages import Stage
from convgate.training.distil import Teacher
from convgate.training.optimise import learning_rate_factor, make_optimiser

__all__ = ["TrainingModule"]

_OURS = ("cross_entropy", "distillation", "loss", "macs_ratio")
# What is logged beside the method's terms.


class TrainingModule(L.LightningModule):
    """Trains a network, gated or not, on batches (images uint8 [N, C, H, W], labels int64 [N]).

    Everything random in a step (crops, flips, gate noise) is seeded from (seed, epoch, step, rank), so that a run that
    was interrupted and resumed ends in the same weights as one that was not.

    Args:
        network: the network to train; with a `method`, a `GatedNetwork`.
        stage: optimiser, schedule, length.
        images: the training set; supplies mean, std and the evaluation crop.
        augmentation: augmentation of training batches.
        seed: seed of everything random.
        method: the method whose loss terms are added to the cross-entropy.
        teacher: a teacher whose predictions the network learns to match, too.
        hold_gates: keep the gates as they are, deciding as in evaluation.
        channels_last: keep images as NHWC in memory.

    """

    def __init__(
        self,
        network: nn.Module,
        stage: Stage,
        images: ImageSet,
        augmentation: Augmentation,
        *,
        seed: int = 0,
        method: Method | None = None,
        teacher: Teacher | None = None,
        hold_gates: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.stage = stage
        self.images = images
        self.augmentation = augmentation
        self.seed = seed
        self.method = method
        self.teacher = teacher
        self.held = _deciding_parts(network) if hold_gates else []
        for part in self.held:
            part.requires_grad_(False)
        self.sums: dict[str, Tensor | float] = {}
        self.steps = 0
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if teacher is not None:
            teacher.network.to(memory_format=self.memory_format)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        seed = self._seed_of_step(index)
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        x = self._prepare(self.augmentation(images, generator, self.images.view))
        if self.method is not None and isinstance(self.network, GatedNetwork):
            self.method.schedule(self.network.convgate, self.progress(index))
        logits, terms = self._forward(x, index)
        parts = {f"method_{name}" if name in _OURS else name: term for name, term in terms.items()}
        labelled = F.cross_entropy(logits.float(), labels, label_smoothing=self.stage.label_smoothing)
        if self.teacher is not None:
            parts["distillation"] = self.teacher.term(x, logits)
            labelled = self.teacher.rest * labelled
        parts["cross_entropy"] = labelled
        loss = torch.stack([*parts.values()]).sum()
        for name, part in {**parts, "loss": loss}.items():
            self._note(name, part)
        self.steps += 1
        return loss

    def on_train_epoch_start(self) -> None:
        self.sums, self.steps = {}, 0
        for part in self.held:
            part.eval()

    def progress(self, step: int = 0) -> float:
        """The share of the stage that is done before this step of the epoch, in [0, 1)."""
        return (self.current_epoch + step / self.trainer.num_training_batches) / self.stage.epochs

    def on_train_batch_end(self, *_: Any) -> None:
        # Once an epoch: logging each step costs a twentieth of a small network's step. Not in on_train_epoch_end,
        # which comes after the callbacks that record the epoch.
        if self.trainer.is_last_batch:
            self.log_means()

    def log_means(self) -> None:
        """Log the means over the epoch's steps so far."""
        means = {f"train_{name}": total / self.steps for name, total in self.sums.items()}
        self.log_dict(means, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        images, labels = batch
        x = self._prepare(self.images.seen(images))
        recorded = {}
        if isinstance(self.network, GatedNetwork | FixedNetwork):
            logits, decisions = self.network.decide(x)
            recorded["validation_macs_ratio"] = self.network.cost(decisions).ratio.mean()
        else:
            logits = self.network(x)
        recorded["validation_loss"] = F.cross_entropy(logits.float(), labels)
        recorded["validation_accuracy"] = (logits.argmax(1) == labels).float().mean()
        self.log_dict(recorded, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        optimiser = make_optimiser(self.network, self.stage)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: learning_rate_factor(self.stage, min(step / steps, 1.0))
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _forward(self, x: Tensor, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and the method's loss terms; notes the share of the dense MACs that was spent."""
        if not isinstance(self.network, GatedNetwork | FixedNetwork):
            return self.network(x), {}
        logits, decisions = self.network.decide(x)
        with torch.no_grad():
            # Not detached: whether masks hold fractions would have to be asked, and the answer waits for the device.
            self._note("macs_ratio", self.network.cost(decisions).ratio.mean())
        if self.method is None or not isinstance(self.network, GatedNetwork):
            return logits, {}
        terms = self.method.terms(decisions, self.network.convgate, self.network.ledger, self.progress(index))
        return logits, dict(terms)

    def _note(self, name: str, value: Tensor) -> None:
        """Add to the sum that the epoch's mean is logged from."""
        self.sums[name] = self.sums.get(name, 0.0) + value.detach()

    def _prepare(self, images: Tensor) -> Tensor:
        return normalise(images, self.images.mean, self.images.std, memory_format=self.memory_format)

    def _seed_of_step(self, index: int) -> int:
        return random.Random(f"{self.seed} {self.current_epoch} {index} {self.global_rank}").getrandbits(63)


def _deciding_parts(network: nn.Module) -> list[nn.Module]:
    if not isinstance(network, GatedNetwork):
        return []
    return [*(gate for _, gate in network.gate_modules()), *([trunk] if (trunk := network.convgate.trunk) else [])]
