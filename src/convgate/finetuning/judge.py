"""What a gated network spends and keeps: share of the MACs, agreement with its teacher, accuracy with labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convgate.calibration import calibrate
from convgate.errors import BudgetError
from convgate.finetuning.compare import check_logits, divergence, right, same
from convgate.gated import GatedNetwork
from convgate.reading.modes import evaluating

__all__ = ["Judgement", "curve", "judge", "kept_at"]

_STAYING = (0.99, 0.98, 0.95)
_CURVE = 128
# Images that a point of the curve is calibrated on: it is told by the share that it has on the images judged by.


@dataclass(frozen=True)
class Judgement:
    """Shares of the dense MACs and of the images; `kl` is KL(teacher || network) in nats, the mean.

    Of networks that answer for each position of a map, shares of the positions, the mean of the images; accuracy is of
    the labelled positions.

    `changing` is the share of the gates' units that are open for some of the images and closed for others.
    """

    share: float
    agreement: float
    kl: float
    accuracy: float | None
    teacher_accuracy: float | None
    images: int
    changing: float = 0.0

    def __str__(self) -> str:
        text = f"{self.share:.1%} of the MACs, {self.agreement:.1%} of the answers, KL {self.kl:.3f}"
        if self.accuracy is not None:
            text += f", accuracy {self.accuracy:.1%} (dense {self.teacher_accuracy:.1%})"
        return text


@torch.no_grad()
def judge(network: GatedNetwork, teacher: nn.Module, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Judgement:
    """Run both networks, in evaluation mode, over batches of (images, labels or None)."""
    share = agreed = kl = ours_right = teacher_right = 0.0
    images = labelled = 0
    ever: dict[tuple[str, torch.Size], Tensor] = {}
    always: dict[tuple[str, torch.Size], Tensor] = {}
    with evaluating(network), evaluating(teacher):
        for x, labels in batches:
            logits, decisions = network.decide(x)
            theirs = teacher(x)
            for name, decision in decisions.items():
                mask = decision.mask.bool()
                units = name, mask.shape[1:]  # of images of another size there are others
                ever[units] = ever.get(units, False) | mask.any(0)
                always[units] = always.get(units, True) & mask.all(0)
            share += float(network.cost(decisions).ratio.double().sum())
            agreed += float(same(check_logits(logits), theirs).sum())
            kl += float(divergence(logits, theirs).sum())
            images += len(x)
            if labels is not None:
                shares = torch.stack([right(logits, labels), right(theirs, labels)])
                labelled += int((~shares[0].isnan()).sum())
                ours, teachers = shares.nansum(1).tolist()
                ours_right, teacher_right = ours_right + ours, teacher_right + teachers
    changing = sum(int((mask & ~always[units]).sum()) for units, mask in ever.items())
    return Judgement(
        share / images,
        agreed / images,
        kl / images,
        ours_right / labelled if labelled else None,
        teacher_right / labelled if labelled else None,
        images,
        changing / sum(mask.numel() for mask in ever.values()),
    )


def curve(
    network: GatedNetwork,
    teacher: nn.Module,
    calibrated_on: Sequence[Tensor],
    judged_on: Sequence[tuple[Tensor, Tensor | None]],
    budget: float,
    points: int = 5,
) -> list[Judgement]:
    """What is kept at several budgets from `budget` up to 1, by calibration alone; the gates end as they were."""
    gates = [gate for _, gate in network.gate_modules()]
    before = [gate.offset.clone() for gate in gates]
    some: list[Tensor] = []
    for images in calibrated_on:
        if sum(map(len, some)) < _CURVE:
            some.append(images)
    found = []
    try:
        for step in range(points):
            try:
                calibrate(network, some, budget + (1 - budget) * step / points, tolerance=0.02, agreement=False)
            except BudgetError:
                continue
            found.append(judge(network, teacher, judged_on))
    finally:
        with torch.no_grad():
            for gate, offset in zip(gates, before, strict=True):
                gate.offset.copy_(offset)
    return found


def kept_at(points: Sequence[Judgement]) -> dict[float, float | None]:
    """The smallest share of the MACs at which 99, 98 and 95 % of the answers stay, between points evenly; else None.

    The points are judged on the same images: between two that are not, what lies between would be of neither.
    """
    ordered = sorted(points, key=lambda p: p.share)
    found: dict[float, float | None] = {}
    for wanted in _STAYING:
        found[wanted] = None
        for number, point in enumerate(ordered):
            if point.agreement >= wanted:
                found[wanted] = point.share
                if number and ordered[number - 1].agreement < wanted:
                    low = ordered[number - 1]
                    weight = (wanted - low.agreement) / (point.agreement - low.agreement)
                    found[wanted] = low.share + weight * (point.share - low.share)
                break
    return found
