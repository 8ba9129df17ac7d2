"""The stages of a finetuning, and what a checkpoint holds of them."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.calibration import calibrate
from convgate.calibration.measure import computes_in_bfloat16
from convgate.errors import BudgetError, InputError
from convgate.files import replacing
from convgate.finetuning.anneal import set_noise
from convgate.finetuning.batches import Batches
from convgate.finetuning.budget import Budget
from convgate.finetuning.closing import Closing
from convgate.finetuning.distillation import distillation
from convgate.finetuning.features import Features, distance
from convgate.finetuning.finetuned import Finetuned
from convgate.finetuning.importance import order_gates
from convgate.finetuning.judge import Judgement, curve, judge, kept_at
from convgate.finetuning.outputs import write
from convgate.finetuning.parameters import parameter_groups, train_gates
from convgate.finetuning.settings import Settings
from convgate.gated import GatedNetwork
from convgate.gating import Decisions
from convgate.reading.modes import evaluating

__all__ = ["Run"]

_TRAINING = 0.9
# Of the minutes; the rest is for calibrating and judging at the end.
_FASTEST = 0.2
# Rate of a gate's bias: logits of 5 reach the threshold in 25 steps.
_EARLIER = 2.0
# Weights learn at their full rate when gates have come half the way.
_WHOLE = 0.99
# From this share of the MACs on gates have closed nothing, so nothing that they learned is lost by ordering them.
_PROGRESS = ("progress", "step", "epoch", "batch", "elapsed", "held", "rounds", "round_seconds")
# What a checkpoint holds of a run beside its parts.
_MANY = 100
# With fewer units each is so large a part of the MACs that an order would leave gaps between budgets.


class Run:
    """The stages, and what a checkpoint holds of them."""

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
        self.progress, self.step, self.epoch, self.batch, self.elapsed = 0.0, 0, 0, 0, 0.0
        self.held = False
        self.closing: Closing | None = None
        self.rounds, self.round_seconds, self.points = 0, 0.0, list[Judgement]()
        self.features: Features | None = None
        self.history: list[dict[str, float]] = []
        self.before: Judgement | None = None
        self.watch: Callable[[Mapping[str, float]], None] = lambda terms: None
        self.about: dict[str, Any] = {}

    def all(self, keep: float) -> Finetuned:
        """Train, calibrate, judge, write."""
        network = self.network
        if self.data.device.type == "cpu":
            network.to(memory_format=torch.channels_last)
            self.teacher.to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(
            parameter_groups(network, lr=self.settings.lr, weight_decay=self.settings.weight_decay), betas=(0.9, 0.99)
        )
        self.closing = self._closing()
        self._resume()
        if self.before is None:
            self.before = judge(network, self.teacher, self.data.held_out)
            self.say(f"before: {self.before}")
            units = sum(gate.offset.numel() for _, gate in network.gate_modules())
            if self.closing is None and self.settings.order and self.before.share > _WHOLE and units >= _MANY:
                order_gates(network, self.data.calibrated_on, spread=self.settings.order)
        estimators = [gate.estimator for _, gate in network.gate_modules()]
        try:
            self._train()
            # What closes for good costs every image the same, so that there is hardly ever anything to calibrate.
            if self.closing is not None and self.closing.share() > self.budget.share:
                self._round(self.closing, last=True)
            if self.closing is None:
                calibrate(network, self.data.calibrated_on, self.budget.share, agreement=False)
        finally:
            for (_, gate), estimator in zip(network.gate_modules(), estimators, strict=True):
                gate.estimator = estimator
        network.requires_grad_(True).eval()
        after = judge(network, self.teacher, self.data.held_out)
        points = [*self.points, after]
        if self.closing is None:
            points = curve(
                network,
                self.teacher,
                self.data.calibrated_on,
                self.data.held_out,
                self.budget.share,
                points=self.settings.points,
            )
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
            self.closing is not None,
        )
        self.say(f"after {self.elapsed / 60:.1f} min, {self.step} steps: {after}")
        if self.out is not None:
            write(result, self.out, self.closing, self.data.held_out[0][0], self.say)
            (self.out / "state.pt").unlink(missing_ok=True)
        if after.agreement < keep:
            raise BudgetError(
                f"at {after.share:.1%} of the dense MACs only {after.agreement:.1%} of the answers stay (keep="
                f"{keep}); train longer, on more images, or for a larger budget"
            )
        return result

    # -- training --------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        settings, network = self.settings, self.network
        train_gates(network)
        if self.held:
            self._hold()
        begun, spoken, saved = time.monotonic() - self.elapsed, time.monotonic(), time.monotonic()
        pace = _Pace(self.seconds, self.steps)
        for epoch, number, images, labels in self.data.epochs(self.seed, self.epoch, self.batch):
            if self.progress >= 1:
                break
            if self.closing and self._closes_now():
                self._round(self.closing)
            if not self.held and self.progress >= 1 - settings.finish:
                calibrate(network, self.data.calibrated_on, self.budget.share, agreement=False)
                self._hold()
                self.held = True
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
                saved = now
                self._save()

    def _step(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        settings, network = self.settings, self.network
        torch.manual_seed(self.seed * 7_368_787 + self.step)
        gate_lr = settings.gate_lr or min(max(8 / max(settings.ramp * self._expected_steps(), 1), 1e-3), _FASTEST)
        # The gates keep their rate until they are held, or they could not follow the budget. Weights learn as far as
        # gates have closed: while nothing is lost there is nothing to learn, and Adam makes full steps of mere noise.
        rate = max((1 + math.cos(math.pi * self.progress)) / 2, 1e-3) * (1.0 if self.closing else self._closed())
        for group in self.optimiser.param_groups:
            group["lr"] = group["scale"] * (gate_lr if group["gates"] else settings.lr * rate)
        if not self.held:
            fade = max(1 - self.progress / settings.noise, 0.0) if settings.noise else 0.0
            set_noise(network, settings.noise_from * fade, settings.gate_temperature)
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
        if self.progress < settings.small:
            images = _smaller(images, settings.small_size)
        if settings.mix and not settings.label_weight and float(torch.rand(())) < settings.mix:
            images, labels = _mixed(images), None
        loss, logits, theirs, decisions = self._answers(images)
        if not math.isfinite(float(loss.detach())):
            raise InputError(
                f"the loss is {float(loss.detach())} in step {self.step}; check the images, the learning rate and the "
                "network's weights"
            )
        if labels is not None and settings.label_weight:
            loss = loss + settings.label_weight * F.cross_entropy(logits.float(), labels)
        if self.held:
            total, share = loss, float(network.cost(decisions.detach()).ratio.float().mean())
        else:
            total = loss + self.budget.term(network, decisions, loss, self.progress)
            assert self.budget.spent is not None
            share = self.budget.spent
        self.optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_([p for p in network.parameters() if p.grad is not None], settings.clip)
        self.optimiser.step()
        agreed = float((logits.argmax(1) == theirs.argmax(1)).float().mean())
        terms = {
            "loss": float(loss.detach()),
            "share": share,
            "due": share if self.closing else self.budget.target,
            "weight": self.budget.weight,
            "agreement": agreed,
            "kl": float(distillation(logits.detach(), theirs)),
        }
        return terms if labels is None else terms | {"accuracy": float((logits.argmax(1) == labels).float().mean())}

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

    # -- closing ---------------------------------------------------------------------------------------------------

    def _closing(self) -> Closing | None:
        """What closes units for good, where the network starts whole and has enough of them."""
        if not self.settings.rounds:
            return None
        images = self.data.calibrated_on[0]
        whole = copy.deepcopy(self.network).eval().requires_grad_(False)
        closing = Closing(self.network, whole, (images.shape[2], images.shape[3]))
        with torch.no_grad(), evaluating(self.network):
            _, decisions = self.network.decide(images)
        starts_whole = float(self.network.cost(decisions).ratio.min()) > _WHOLE
        if not starts_whole or closing.units < _MANY or closing.least() >= self.budget.share:
            return None
        self.held = True
        return closing

    def _closes_now(self) -> bool:
        """Whether a round is due: they are spread over the ramp."""
        due = self.settings.ramp * self.rounds / self.settings.rounds
        return self.closing is not None and self.closing.share() > self.budget.share and self.progress >= due

    def _round(self, closing: Closing, last: bool = False) -> None:
        """Close some more units, and let the layers that read them make up for it."""
        torch.manual_seed(self.seed * 7_368_787 + self.rounds)
        if self.rounds:
            self.points.append(judge(self.network, self.teacher, self.data.some_held_out()))
        begun = time.monotonic()
        spent = closing.share()
        goal = spent - (spent - self.budget.share) / (1 if last else self._rounds_left())
        closing.close_to(goal, self.data.to_close_on(self.seed + self.rounds))
        self.rounds += 1
        self.round_seconds = time.monotonic() - begun
        judged = judge(self.network, self.teacher, self.data.some_held_out())
        self.say(f"round {self.rounds} of closing ({self.round_seconds:.0f} s): {judged}")

    def _rounds_left(self) -> int:
        """How many rounds there are still to be; fewer where they take long: half of the ramp is for learning."""
        left = max(self.settings.rounds - self.rounds, 1)
        if self.seconds is None or not self.round_seconds:
            return left
        time_left = self.settings.ramp * self.seconds - self.elapsed
        return max(min(left, int(time_left / (2 * self.round_seconds))), 1)

    def _hold(self) -> None:
        """Gates decide as in evaluation and learn no more."""
        for _, gate in self.network.gate_modules():
            gate.eval()
        if self.network.convgate.trunk is not None:
            self.network.convgate.trunk.eval()
        for parameter in self.network.gate_parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    def _closed(self) -> float:
        """How far the network is from its start to its budget, in [0, 1]."""
        spent = 1.0 if self.budget.spent is None else self.budget.spent
        return min(max(_EARLIER * (1 - spent) / max(1 - self.budget.share, 1e-6), 0.0), 1.0)

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
            "closing": self.closing and self.closing.state_dict(),
            "points": [dataclasses.asdict(point) for point in self.points],
            "before": None if self.before is None else dataclasses.asdict(self.before),
            **{
                key: getattr(self, key)
                for key in ("progress", "step", "epoch", "batch", "elapsed", "held", "rounds", "round_seconds")
            },
        }
        with replacing(self.out / "state.pt") as temporary:
            torch.save(state, temporary)

    def _how(self) -> dict[str, Any]:
        """What a run that goes on must have in common with the one that was killed, beside network and budget."""
        return {"seed": self.seed, "steps": self.steps, **dataclasses.asdict(self.settings)}

    def _resume(self) -> None:
        path = None if self.out is None else self.out / "state.pt"
        if path is None or not path.is_file():
            return
        state = torch.load(path, weights_only=True, map_location=self.data.device)
        if state["share"] != self.budget.share:
            raise InputError(
                f"{path} is of a run for {state['share']} of the dense MACs, and this one is for {self.budget.share}; "
                "give another folder, or delete that file"
            )
        other = [key for key, value in self.about.items() if state.get("about", {}).get(key, value) != value]
        if other:
            raise InputError(
                f"{path} is of another run: {other[0]} was {state['about'][other[0]]}, and is {self.about[other[0]]} "
                "now; give another folder, or delete that file"
            )
        how = state.get("how", {})
        other = [key for key, value in self._how().items() if how.get(key) != value]
        if other:
            raise InputError(
                f"{path} is of a run with another {other[0]} ({how.get(other[0])}, and now {self._how()[other[0]]}); "
                "give another folder, or delete that file"
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.budget.load_state_dict(state["budget"])
        self.history = state["history"]
        self.before = state["before"] and Judgement(**state["before"])
        self.points = [Judgement(**point) for point in state["points"]]
        if self.closing:
            self.closing.load_state_dict(state["closing"])
        for key in _PROGRESS:
            setattr(self, key, state[key])
        self.say(f"going on from step {self.step}, {self.progress:.0%}")


def _smaller(images: Tensor, share: float) -> Tensor:
    """The images scaled, with sides that are multiples of 32 as far as they were."""
    height, width = (max(round(side * share / 32), 1) * 32 if side % 32 == 0 else side for side in images.shape[2:])
    if (height, width) == tuple(images.shape[2:]):
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", antialias=True)


def _mixed(images: Tensor) -> Tensor:
    """Each image mixed with that at the same place from the end, in a share of its own.

    Source: Beyer, Zhai, Royer, Markeeva, Anil, Kolesnikov: Knowledge distillation: a good teacher is patient and
    consistent, CVPR 2022, section 3 (the teacher sees the student's views; mixtures extend the images there are).
    """
    share = torch.rand(len(images), 1, 1, 1).to(images)
    return share * images + (1 - share) * images.flip(0)


class _Pace:
    """Progress in [0, 1]: by steps where their number is given, else by time, never falling and never jumping."""

    def __init__(self, seconds: float | None, steps: int | None) -> None:
        self.seconds, self.steps = seconds, steps

    def progress(self, before: float, step: int, elapsed: float) -> float:
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.seconds is not None
        return min(max(elapsed / self.seconds, before), 1.0)
