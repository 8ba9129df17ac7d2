"""A finetuning: its steps, and what a checkpoint holds of it. How it comes down to its budget is a descent's."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.calibration.measure import computes_in_bfloat16
from convgate.errors import BudgetError, CheckpointError, InputError
from convgate.files import replacing
from convgate.finetuning.batches import Batches, checksum
from convgate.finetuning.budget import Budget
from convgate.finetuning.closes import ClosesForGood
from convgate.finetuning.compare import UNLABELLED, right, same, targets
from convgate.finetuning.descent import Descent, Given
from convgate.finetuning.features import Features, distance
from convgate.finetuning.finetuned import Finetuned
from convgate.finetuning.images import mixed, smaller
from convgate.finetuning.judge import Judgement, judge, kept_at
from convgate.finetuning.learns import LearnsToClose
from convgate.finetuning.outputs import write
from convgate.finetuning.parameters import parameter_groups, train_gates
from convgate.finetuning.settings import Settings
from convgate.finetuning.state import ADVICE, check_fit, read_state
from convgate.gated import GatedNetwork
from convgate.gating import Decisions
from convgate.memory_format import format_for_training
from convgate.tasks.distillation import distillation

__all__ = ["Run"]

_TRAINING = 0.9
# Of the minutes; the rest is for calibrating and judging at the end.
_FASTEST = 0.2
# Rate of a gate's bias: logits of 5 reach the threshold in 25 steps.
_PROGRESS = ("progress", "step", "epoch", "batch", "elapsed")
# What a checkpoint holds of a run beside its parts.


class Run:
    """The steps of a finetuning, and what a checkpoint holds of them."""

    def __init__(
        self,
        network: GatedNetwork,
        teacher: nn.Module,
        data: Batches,
        budget: Budget,
        settings: Settings,
        minutes: float | None,
        steps: int | None,
        seed: int,
        out: str | Path | None,
        say: Callable[[str], None],
    ) -> None:
        self.network, self.teacher, self.data, self.budget, self.settings = network, teacher, data, budget, settings
        self.seconds = 60 * minutes * _TRAINING if steps is None and minutes is not None else None
        self.steps, self.seed, self.say = steps, seed, say
        self.out = None if out is None else Path(out)
        self.autocast = computes_in_bfloat16(data.device)
        self.memory_format = format_for_training(network, data.device)
        self.progress, self.step, self.epoch, self.batch, self.elapsed = 0.0, 0, 0, 0, 0.0
        self.seen: int | None = None
        self.features: Features | None = None
        self.history: list[dict[str, float]] = []
        self.before: Judgement | None = None
        self.watch: Callable[[Mapping[str, float]], None] = lambda terms: None
        self.about: dict[str, Any] = {}

    def all(self, keep: float) -> Finetuned:
        """Train, meet the budget, judge, write."""
        network = self.network
        if self.data.device.type == "cpu":
            network.to(memory_format=self.memory_format)
            self.teacher.to(memory_format=self.memory_format)
        self.optimiser = torch.optim.AdamW(
            parameter_groups(network, lr=self.settings.lr, weight_decay=self.settings.weight_decay), betas=(0.9, 0.99)
        )
        given = Given(network, self.teacher, self.data, self.budget, self.settings, self.seconds, self.seed, self.say)
        self.descent: Descent = ClosesForGood.of(given) or LearnsToClose(given)
        self._resume()
        if self.before is None:
            self.before = judge(network, self.teacher, self.data.held_out)
            self.say(f"before: {self.before}")
            self.descent.start(self.before)
        estimators = [gate.estimator for _, gate in network.gate_modules()]
        learned = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
        train_gates(network)
        self.descent.begin()
        try:
            self._train()
            self.descent.finish()
        finally:
            for (_, gate), estimator in zip(network.gate_modules(), estimators, strict=True):
                gate.estimator = estimator
            for parameter, flag in learned:
                parameter.requires_grad_(flag)
            network.eval()
        after = judge(network, self.teacher, self.data.held_out)
        points = self.descent.curve(after)
        result = Finetuned(
            network,
            self.budget.share,
            self.before,
            after,
            points,
            kept_at(points),
            self.step,
            self.elapsed,
            self.history,
            self.about,
            self.descent.closing is not None,
        )
        self.say(f"after {self.elapsed / 60:.1f} min, {self.step} steps: {after}")
        if self.out is not None:
            write(result, self.out, self.descent.closing, self.data.held_out[0][0], self.say)
            (self.out / "state.pt").unlink(missing_ok=True)
        if after.agreement < keep:
            raise BudgetError(
                f"at {after.share:.1%} of the dense MACs only {after.agreement:.1%} of the answers stay (keep="
                f"{keep}); train longer, on more images, or for a larger budget"
            )
        return result

    # -- training --------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        begun, spoken, saved = time.monotonic() - self.elapsed, time.monotonic(), time.monotonic()
        pace = _Pace(self.seconds, self.steps)
        for epoch, number, images, labels in self.data.epochs(self.epoch, self.batch, self._compare):
            if self.progress >= 1:
                break
            self.descent.before_step(self.progress, self.elapsed)
            terms = self._step(images, labels)
            self.step, self.epoch, self.batch = self.step + 1, epoch, number + 1
            now = time.monotonic()
            self.elapsed = now - begun
            self.progress = pace.progress(self.progress, self.step, self.elapsed)
            self.watch({"progress": self.progress, "step": self.step, "seconds": self.elapsed, **terms})
            if now - spoken > 20 or self.step == 1 or self.progress >= 1:
                spoken = now
                self.history.append({"step": self.step, "progress": self.progress, **terms})
                self.say(
                    f"{self.progress:4.0%} {self.elapsed / 60:5.1f} min: loss {terms['loss']:.3f}, "
                    f"{terms['share']:.1%} of the MACs (due {terms['due']:.1%}), "
                    f"{terms['agreement']:.0%} of the batch's answers"
                )
            if self.out is not None and (
                now - saved > 60 or (self.steps is not None and self.step % max(min(50, self.steps // 4), 1) == 0)
            ):
                saved, self.seen = now, checksum(images)
                self._save()

    def _step(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        settings, network = self.settings, self.network
        torch.manual_seed(self.seed * 7_368_787 + self.step)
        gate_lr = settings.gate_lr or min(max(8 / max(settings.ramp * self._expected_steps(), 1), 1e-3), _FASTEST)
        # The gates keep their rate until they are held, or they could not follow the budget.
        rate = max((1 + math.cos(math.pi * self.progress)) / 2, 1e-3) * self.descent.rate()
        for group in self.optimiser.param_groups:
            group["lr"] = group["scale"] * (gate_lr if group["gates"] else settings.lr * rate)
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=self.memory_format)
        if self.progress < settings.small:
            images = smaller(images, settings.small_size)
        # Gates that learn are to decide of images, not of mixtures.
        mixes = self.descent.closing is not None and not settings.label_weight
        if mixes and float(torch.rand(())) < settings.mix:
            images, labels = mixed(images), None
        loss, logits, theirs, decisions = self._answers(images)
        if not math.isfinite(float(loss.detach())):
            raise InputError(
                f"the loss is {float(loss.detach())} in step {self.step}; check the images, the learning rate and the "
                "network's weights"
            )
        if labels is not None and settings.label_weight:
            wanted = targets(logits, labels)
            if bool((wanted != UNLABELLED).any()):  # the mean of none is not a number
                loss = loss + settings.label_weight * F.cross_entropy(logits.float(), wanted)
        added, share, due = self.descent.term(decisions, loss, self.progress)
        self.optimiser.zero_grad()
        total = loss + added
        if total.requires_grad:  # not where gates are held, and all the rest is frozen
            total.backward()
        nn.utils.clip_grad_norm_([p for p in network.parameters() if p.grad is not None], settings.clip)
        self.optimiser.step()
        terms = {
            "loss": float(loss.detach()),
            "share": share,
            "due": due,
            "weight": self.budget.weight,
            "agreement": float(same(logits, theirs).mean()),
            "kl": float(distillation(logits.detach(), theirs)),
        }
        accuracy = math.nan if labels is None else float(right(logits, labels).nanmean())
        return terms if math.isnan(accuracy) else terms | {"accuracy": accuracy}  # none may be labelled

    def _answers(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Decisions]:
        """(how far the network is from its teacher, both networks' logits, decisions)."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            if self.features is None:
                with torch.no_grad():
                    theirs = self.teacher(images)
                logits, decisions = self.network.decide(images)
            else:
                with torch.no_grad(), self.features.of(self.teacher) as inside_teacher:
                    theirs = self.teacher(images)
                with self.features.of(self.network) as inside:
                    logits, decisions = self.network.decide(images)
        loss = distillation(logits, theirs, temperature=self.settings.temperature)
        if self.features is not None:
            loss = loss + self.settings.features * distance(inside, inside_teacher)
        return loss, logits, theirs, decisions

    def _expected_steps(self) -> float:
        if self.steps is not None:
            return self.steps
        return self.step / self.progress if self.progress > 0 else 1000.0

    # -- files -----------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        assert self.out is not None
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "budget": self.budget.state_dict(),
            "share": self.budget.share,
            "how": self._how(),
            "about": self.about,
            "history": self.history,
            "seen": self.seen,
            "descent": self.descent.state_dict(),
            "before": None if self.before is None else dataclasses.asdict(self.before),
            **{key: getattr(self, key) for key in _PROGRESS},
        }
        with replacing(self.out / "state.pt") as temporary:
            torch.save(state, temporary)

    def _compare(self, images: Tensor) -> None:
        """Say so if the last batch before the checkpoint was another: then the run is not what it would have been."""
        if self.steps is not None and self.seen is not None and checksum(images) != self.seen:
            self.say(
                "WARNING: the batches are not those of the run that was killed, so the weights will not be those that "
                "it would have ended in; to repeat a run, give batches that follow from the global generators (torch, "
                "random, NumPy) alone"
            )

    def _how(self) -> dict[str, Any]:
        """What a run that goes on must have in common with the one that was killed, beside network and budget."""
        return {"seed": self.seed, "steps": self.steps, **dataclasses.asdict(self.settings)}

    def _resume(self) -> None:
        path = None if self.out is None else self.out / "state.pt"
        if path is None or not path.is_file():
            return
        state = read_state(path, self.data.device)
        if state["share"] != self.budget.share:
            raise InputError(
                f"{path} is of a run for {state['share']} of the dense MACs, and this one is for {self.budget.share}; "
                "give another folder, or delete that file"
            )
        other = [key for key, value in self.about.items() if state["about"].get(key, value) != value]
        if other:
            raise InputError(
                f"{path} is of another run: {other[0]} was {state['about'][other[0]]}, and is {self.about[other[0]]} "
                "now; give another folder, or delete that file"
            )
        how = state["how"]
        other = [key for key, value in self._how().items() if how.get(key) != value]
        if other:
            raise InputError(
                f"{path} is of a run with another {other[0]} ({how.get(other[0])}, and now {self._how()[other[0]]}); "
                "give another folder, or delete that file"
            )
        if state["descent"].keys() != self.descent.state_dict().keys():
            raise InputError(
                f"{path} is of a run that came down to its budget in another way, as a network does that was changed "
                "since, or of another version; give the network as it was before that run, or delete the file"
            )
        check_fit(path, state, self.network, self.optimiser)
        try:
            self.budget.load_state_dict(state["budget"])
            self.before = state["before"] and Judgement(**state["before"])
            self.descent.load_state_dict(state["descent"])
        except (LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} does not hold a finetuning ({error!r}); {ADVICE}") from error
        self.history = state["history"]
        for key in _PROGRESS:
            setattr(self, key, state[key])
        self.seen = state.get("seen")  # earlier versions wrote none
        self.optimiser.load_state_dict(state["optimiser"])
        # Last: all that may be refused was, and the caller's network is as it was given.
        self.network.load_state_dict(state["network"])
        self.say(f"going on from step {self.step}, {self.progress:.0%}")


class _Pace:
    """Progress in [0, 1]: by steps where their number is given, else by time, never falling and never jumping."""

    def __init__(self, seconds: float | None, steps: int | None) -> None:
        self.seconds, self.steps = seconds, steps

    def progress(self, before: float, step: int, elapsed: float) -> float:
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.seconds is not None
        return min(max(elapsed / self.seconds, before), 1.0)
