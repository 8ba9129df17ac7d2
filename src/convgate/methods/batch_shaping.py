"""Batch-Shaping: channel gates on the first features of residual blocks, drawn to a distribution of their openness.

Bejnordi, Blankevoort, Welling: Batch-Shaping for Learning Conditional Channel Gated Networks, ICLR 2020. The paper's
text was not at hand; what the method is comes from Qualcomm's published loss and from the re-implementation in the code
of FGC, which says that it follows the paper:

- Gate of a feature: logits = conv1x1(relu(bn(conv1x1(gap(x))))), 16 hidden units, x the input of the feature's
  convolution; in a basic block that is the block's input, and the gated feature relu(bn1(conv1 x)).
- Training takes 1[logit + logistic noise > 0] with the gradient of the sigmoid at temperature 2/3 (binary concrete
  gates); evaluation takes 1[sigmoid(logit) >= 1/2].
- Loss terms, with p = sigmoid(logit), noise-free, and e the share of training done:
  shaping = gamma (1 - e / 0.2) for e < 0.2, then 0, times the Cramer-von-Mises distance of each gate's p over the batch
  from Beta(0.6, 0.4) (see `convgate.gating.shaping`); L0 = rho mean(p), rho rising from 0 at e = 0.2 to its value at
  0.6.
- gamma = 0.75 belongs to a distance that is summed over gates and averaged over samples.

Differences from the paper and the codes:

- Any CNN; in a bottleneck the features of conv1 and conv2 are gated, each from its own convolution's input. In a
  network without residual branches every feature is gated that only convolutions read (`where`).
- The schedules count the share of training done, not epochs (the code's: 100 and 300 of 500).
- The sources disagree on the distance's normalisation: `normalisation` chooses, and gamma goes with it.
- rho: the script's default is 0; 0.4 is what FGC's list of commands gives it for this method. The paper's values are
  not known here.
- A density of infinity, at p = 0 or 1, is clipped to 100 as in Qualcomm's code; FGC makes it 0. Equal p have different
  ranks, in the order of the sort, as in both.
- The distance takes the batch that one process sees: the smaller it is, the noisier the distance.
- Gates start open, with a last layer that is nearly zero, so that a trained network is whole at the start. With
  `init="paper"` the weights are kaiming's and the bias is 0: half of the gates open, where the distance has its largest
  gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from convgate.cost import Ledger
from convgate.errors import InputError
from convgate.gated.gate_set import GateSet
from convgate.gated.method import Ablation, Method
from convgate.gated.options import NotNegative, Positive, Share, Size
from convgate.gated.plan import GateSpec, MaskSpec, Site, Ungated
from convgate.gating import (
    ChannelGroups,
    ChannelHead,
    Decisions,
    Gate,
    GateKind,
    LossTerms,
    Progress,
    batch_shaping,
    logistic_straight_through,
    ramp,
)
from convgate.gating.heads import Init
from convgate.methods.channel_sites import channel_gate, feature_site, inside_branches, outside_branches
from convgate.methods.registry import register_method
from convgate.methods.sampling import anneal
from convgate.reading.structure import Branch, Feature, Rejected, branches, features
from convgate.reading.trace import Trace

__all__ = ["BatchShaping"]


@register_method
@dataclass(frozen=True)
class BatchShaping(Method):
    """Batch-shaped channel gates (ICLR 2020).

    Args:
        a: first parameter of the Beta distribution.
        b: second parameter of the Beta distribution.
        shaping_weight: gamma, of the distance.
        l0_weight: rho, of the mean openness.
        shaping_end: share of the training at which the distance's weight has fallen to 0.
        l0_start: share of the training at which the mean openness begins to be penalised.
        l0_end: share of the training from which its weight is rho.
        normalisation: of the distance, see `convgate.gating.batch_shaping`.
        where: "branches": residual branches only; "everywhere": also features outside of them; "auto": "everywhere"
            in a network that has no residual branch.
        hidden: units of a gate's hidden layer.
        group: how many neighbouring channels share a gate (for hardware).
        temperature: of the sigmoid whose gradient is used.
        final_temperature: what the temperature falls to, exponentially, until the noise ends; None: it stays constant.
        noise: the share of the training in which decisions are sampled (all of it in the sources); after that they are
            those of evaluation, and the gates keep learning.
        init: "whole": the gated network starts as the network it was made from; "paper": heads start as the sources
            start them, which disturbs a trained network at once.
        bias: initial bias of the logits; None for 5, or 0 with `init="paper"`.

    """

    ablations: ClassVar[Mapping[str, Ablation]] = {
        "unshaped": Ablation(
            "Batch shaping with the loss that shapes left out: its gates, and all else that they are trained for",
            {"shaping_weight": 0.0},
        )
    }

    a: Positive = 0.6
    b: Positive = 0.4
    shaping_weight: NotNegative = 0.75
    l0_weight: NotNegative = 0.4
    shaping_end: Share = 0.2
    l0_start: Share = 0.2
    l0_end: Share = 0.6
    normalisation: Literal["mean", "gates", "samples"] = "gates"
    where: Literal["auto", "branches", "everywhere"] = "auto"
    hidden: Size = 16
    group: Size = 1
    temperature: Positive = 0.66667
    final_temperature: Positive | None = None
    noise: Share = 1.0
    init: Init = "whole"
    bias: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l0_end < self.l0_start:
            raise InputError(
                f"BatchShaping(l0_start={self.l0_start}, l0_end={self.l0_end}): the end is not before the start"
            )

    @property
    def kinds(self) -> tuple[type[GateKind], ...]:
        return (ChannelGroups,)

    @property
    def penalises(self) -> tuple[type[GateKind], ...]:
        return (ChannelGroups,)

    def sites(self, trace: Trace) -> tuple[list[Site], list[Rejected]]:
        found, skipped = branches(trace)
        gateable, rejected = features(trace)
        reasons = {r.name: r.reason for r in rejected}
        sites = []
        for branch in found:
            site = self._branch_site(trace, branch, gateable, reasons)
            if site.gates:
                sites.append(site)
            else:
                skipped.append(Rejected(site.name, "has no feature that only convolutions read"))
                skipped.extend(site.skipped)
        inside = inside_branches(found)
        everywhere = self.where == "everywhere" or (self.where == "auto" and not found)
        outside, left = outside_branches(trace, gateable, inside, everywhere=everywhere)
        sites.extend(feature_site(trace, f, channel_gate(trace, f, self.group)) for f in outside)
        named = {str(trace.node(conv).target) for conv in inside}
        return sites, [*skipped, *left, *(r for r in rejected if r.name not in named)]

    def _branch_site(self, trace: Trace, branch: Branch, gateable: list[Feature], reasons: Mapping[str, str]) -> Site:
        inside = [feature for feature in gateable if feature.convs[-1] in branch.convs]
        gates = tuple(channel_gate(trace, feature, self.group) for feature in inside)
        masks = tuple(MaskSpec(gate.name, feature.end) for gate, feature in zip(gates, inside, strict=True))
        gated = {conv for feature in inside for conv in feature.convs}
        others = [c for c, end in zip(branch.convs, branch.ends, strict=True) if c not in gated and end != branch.last]
        targets = [str(trace.node(conv).target) for conv in others]
        skipped = tuple(Ungated(target, reasons[target], ChannelGroups) for target in targets)
        return Site(branch.name, branch.convs, trace.shapes[branch.join], gates, masks, skipped)

    def gate(self, spec: GateSpec) -> Gate:
        bias = self.bias if self.bias is not None else 5.0 if self.init == "whole" else 0.0
        head = ChannelHead(spec.channels, spec.units, hidden=self.hidden, bias=bias, init=self.init)
        return Gate(spec.offset_shape, head, partial(logistic_straight_through, temperature=self.temperature))

    def schedule(self, gates: GateSet, progress: float) -> None:
        anneal(gates, progress, noise=self.noise, start=self.temperature, end=self.final_temperature)

    def terms(self, decisions: Decisions, gates: GateSet, ledger: Ledger, progress: Progress) -> LossTerms:
        """Both terms, on channel gates; so it also suits channel gates of other methods (see `Combined`)."""
        logits = [d.logits.flatten(1) for d in decisions.of_kind(ChannelGroups).values() if d.logits is not None]
        if not logits:
            raise InputError(
                "BatchShaping's penalty was given no channel gate with logits; give what decide() returned"
            )
        openness = torch.sigmoid(torch.cat(logits, 1))
        shaping, l0 = self.weights(progress)
        # A weight in a tensor is not asked whether it is 0, as the answer would wait for the device. So a recording has
        # the distance to its end, where it is multiplied by 0.
        weighs = self.shaping_weight > 0 and (isinstance(shaping, Tensor) or shaping > 0)
        distance = batch_shaping(openness, self.a, self.b, self.normalisation) if weighs else openness.new_zeros(())
        return LossTerms(type(self).__name__, {"shaping": shaping * distance, "l0": l0 * openness.mean()})

    def weights(self, progress: Progress) -> tuple[Progress, Progress]:
        """(gamma, rho) when the share `progress` of the training is done."""
        shaping = self.shaping_weight * (1 - ramp(progress, 0.0, self.shaping_end))
        return shaping, self.l0_weight * ramp(progress, self.l0_start, self.l0_end)
