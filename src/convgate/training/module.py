"""The Lightning module: task loss plus the method's terms plus a teacher's.

Noise depends on seed, epoch and step alone.
"""

import random
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from convgate.data.images import AnyImages
from convgate.gated import FixedNetwork, GatedModel, GatedNetwork
from convgate.gating import Progress
from convgate.methods import Method
from convgate.quantization import FakeQuantization
from convgate.recipes.recipe import Supervision
from convgate.recipes.stages import Stage
from convgate.tasks.task import Task
from convgate.training.distil import Teacher
from convgate.training.optimise import learning_rate_factor, make_optimiser
from convgate.training.supervise import fit_to, supervision, weight_at

__all__ = ["TrainingModule"]

_OURS = ("cross_entropy", "distillation", "loss", "macs_ratio")
# What is logged beside the method's terms.
_FEW = 3


class TrainingModule(L.LightningModule):
    """Trains a network, gated or not, on batches (images, targets) of a task.

    Everything random in a step (crops, flips, gate noise) is seeded from (seed, epoch, step, rank), so that a run that
    was interrupted and resumed ends in the same weights as one that was not.

    With a teacher, the task may watch the network by hooks (`Task.watch`); close `watching` to take them off again.

    Args:
        network: the network to train; with a `method`, a `GatedNetwork`.
        stage: optimiser, schedule, length.
        images: the training set.
        task: says how batches are augmented, what is learned from and what is judged.
        seed: seed of everything random.
        method: the method whose loss terms are added to the task's.
        teacher: a teacher whose predictions the network learns to match, too.
        hold_gates: keep the gates as they are, deciding as in evaluation.
        told: whether spatial gates are told where objects are.
        memory_format: how images lie in memory.
        fake: rounds what the network computes with, in steps and in validation; its ranges are in the checkpoint.

    """

    def __init__(
        self,
        network: nn.Module,
        stage: Stage,
        images: AnyImages,
        task: Task,
        *,
        seed: int = 0,
        method: Method | None = None,
        teacher: Teacher | None = None,
        hold_gates: bool = False,
        told: Supervision | None = None,
        memory_format: torch.memory_format = torch.channels_last,
        fake: FakeQuantization | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.stage = stage
        self.images = images
        self.task = task
        self.seed = seed
        self.method = method
        self.teacher = teacher
        self.told = told or Supervision()
        self.fake = fake
        self.held = _deciding_parts(network) if hold_gates else []
        for part in self.held:
            part.requires_grad_(False)
        self.sums: dict[str, Tensor | float] = {}
        self.steps = 0
        self.memory_format = memory_format
        self.judge = task.judge(images.classes)
        self.validated = 0
        self.watching = ExitStack()
        self.answer = None
        if teacher is not None:
            teacher.network.to(memory_format=self.memory_format)
            self.answer = self.watching.enter_context(task.watch(network))

    def training_step(self, batch: tuple[Any, Any], index: int) -> Tensor:
        x, targets = self.drawn(batch, index)
        loss, noted = self.loss(x, targets, self.progress(index))
        self.note(noted)
        return loss

    def drawn(self, batch: tuple[Any, Any], index: int) -> tuple[Any, Any]:
        """A batch as the network gets it in this step of the epoch; all that is random in the step is seeded."""
        seed = self._seed_of_step(index)
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        x, targets = self.task.augmented(self.images, batch, generator)
        return self._laid_out(x), targets

    def loss(self, x: Any, targets: Any, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch when this share of the stage is done, and what is logged of it: terms, sum, MACs."""
        self.schedule(progress)
        return self.scheduled_loss(x, targets, progress)

    def schedule(self, progress: float) -> None:
        """Update what the method changes in the gates when this share of the stage is done."""
        if self.method is not None and isinstance(self.network, GatedNetwork | GatedModel):
            self.method.schedule(self.network.convgate, progress)

    def scheduled_loss(self, x: Any, targets: Any, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss`, with gates that were scheduled for this progress."""
        output, terms, noted = self._forward(x, targets, progress)
        parts = {f"method_{name}" if name in _OURS else name: term for name, term in terms.items()}
        rest = 1.0
        if self.teacher is not None and self.answer is not None:
            parts["distillation"] = self.teacher.term(x, self.answer(output))
            rest = self.teacher.rest
        for name, term in self.task.losses(output, targets, self.stage.label_smoothing).items():
            parts[name] = rest * term
        loss = torch.stack([*parts.values()]).sum()
        return loss, {**noted, **parts, "loss": loss}

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

    def on_validation_epoch_start(self) -> None:
        self.judge, self.validated = self.task.judge(self.images.classes), 0

    def validation_step(self, batch: tuple[Any, Any], index: int) -> None:
        images, targets = batch
        x = self._prepare(images)
        if isinstance(self.network, GatedNetwork | GatedModel | FixedNetwork):
            with self._rounding():
                output, decisions = self.network.decide(x)
            ratio = self.network.cost(decisions, whole=True).ratio.mean()
            self.log_dict(
                {"validation_macs_ratio": ratio}, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(targets)
            )
        else:
            with self._rounding():
                output = self.network(x)
        self.judge.add(output, targets)
        self.validated += len(targets)

    def on_validation_epoch_end(self) -> None:
        scores = self.judge.scores()
        # Of many classes each has a score, which would be a column each.
        few = {name: scores[name] for name in [*scores][:_FEW]}
        self.log_dict(
            {f"validation_{name}": value for name, value in few.items()}, sync_dist=True, batch_size=self.validated
        )

    def configure_optimizers(self) -> Any:
        optimiser = make_optimiser(self.network, self.stage)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: learning_rate_factor(self.stage, min(step / steps, 1.0))
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _forward(self, x: Any, targets: Any, progress: Progress) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        """The network's output, the method's loss terms, and the share of the dense MACs that was spent."""
        arguments = self.task.arguments(x, targets)
        if not isinstance(self.network, GatedNetwork | GatedModel | FixedNetwork):
            with self._rounding():
                return self.network(*arguments), {}, {}
        with self._rounding():
            output, decisions = self.network.decide(*arguments)
        with torch.no_grad():
            # Not detached, and said to be whole where gates decide as in evaluation: whether masks hold fractions
            # would have to be asked, and the answer waits for the device.
            spent = {"macs_ratio": self.network.cost(decisions, whole=self.method is None).ratio.mean()}
        if self.method is None or not isinstance(self.network, GatedNetwork | GatedModel):
            return output, {}, spent
        ledger = self.network.ledger_for(decisions)
        terms = dict(self.method.terms(decisions, self.network.convgate, ledger, progress))
        if self.told.weight:
            size = decisions.size or (self.network.plan.example[2], self.network.plan.example[3])
            regions = fit_to(self.task.regions(x, targets), size)
            terms["supervision"] = weight_at(self.told, progress) * supervision(decisions, regions)
        return output, terms, spent

    def note(self, values: Mapping[str, Tensor]) -> None:
        """Add what a step gave to the sums that the epoch's means are logged from."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()
        self.steps += 1

    def _rounding(self) -> AbstractContextManager[Any]:
        """Around each call, so that nothing is left on the network's layers whatever ends the training."""
        return nullcontext() if self.fake is None else self.fake.attached(self.network)

    def _prepare(self, images: Any) -> Any:
        return self._laid_out(self.task.prepared(self.images, images))

    def _laid_out(self, x: Any) -> Any:
        """A batch in the memory format that was asked for; a list of images is as the detector makes it."""
        return x.contiguous(memory_format=self.memory_format) if isinstance(x, Tensor) else x

    def _seed_of_step(self, index: int) -> int:
        return random.Random(f"{self.seed} {self.current_epoch} {index} {self.global_rank}").getrandbits(63)


def _deciding_parts(network: nn.Module) -> list[nn.Module]:
    if not isinstance(network, GatedNetwork | GatedModel):
        return []
    return [*(gate for _, gate in network.gate_modules()), *([trunk] if (trunk := network.convgate.trunk) else [])]
