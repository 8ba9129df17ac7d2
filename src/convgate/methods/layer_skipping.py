"""Layer skipping (ConvNet-AIG): each residual branch is computed as a whole or not at all.

Veit, Belongie: Convolutional Networks with Adaptive Inference Graphs, ECCV 2018. What the method is, by its code:

- Gate of a branch with input x: logits = fc2(relu(bn(fc1(gap(x))))), 16 hidden units, two classes (closed, open).
- Training draws the class with Gumbel noise and passes it the gradient of the softmax; evaluation here takes the
  likelier class, without noise.
- The branch's output is multiplied by the decision; a closed branch is not computed.
- Loss term: weight * mean over gates of (t_l - mean openness of gate l over the batch)^2; the weight is 2 for CIFAR and
  1 for ImageNet, and t_l may differ from gate to gate.
- Gates start open with probability 0.87: the code's biases are 0.1 and 2, its weights of fc2 N(0, 0.001).

Differences from the paper and its code:

- One logit, the difference of the two: the difference of two Gumbel variables is logistic, the softmax of two classes
  is the sigmoid, so decisions and gradients have the same distribution. Its bias is 2 - 0.1 = 1.9, its weights
  N(0, sqrt(2) * 0.001).
- The temperature is 1 unless given.
- The bias is 5 unless given or `init="paper"`: sampling then closes 0.7 % of the branches at the start, not 13 %.
- Evaluation is noise-free; the code samples there too.
- The code decays the gates' weights as all others (5e-4); recipes here decay gates only where `gate_decay` says so.
- Any CNN with residual branches. All of them have a gate; where the paper keeps one open its target is 1 (`targets`).
- The gate is a spatial one with a single tile: what masks skip, the ledger and the engine then hold for it unchanged.
  Linear layers inside a branch are computed and counted in any case; convolutions are not, squeeze-and-excitation's
  included.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from convgate.cost import Ledger
from convgate.errors import PlanError
from convgate.gated.gate_set import GateSet
from convgate.gated.method import Method
from convgate.gated.options import NotNegative, Positive, Share, Size
from convgate.gated.plan import GateSpec, MaskSpec, Site
from convgate.gating import (
    ChannelHead,
    Decisions,
    Gate,
    GateKind,
    LossTerms,
    Progress,
    Tiles,
    logistic_straight_through,
)
from convgate.gating.heads import Init
from convgate.methods.registry import register_method
from convgate.methods.sampling import anneal
from convgate.reading.structure import Branch, Rejected, branches
from convgate.reading.trace import Trace

__all__ = ["LayerSkipping"]

_SUFFIX = ".branch"


@register_method
@dataclass(frozen=True)
class LayerSkipping(Method):
    """Whole residual branches on or off (ConvNet-AIG, ECCV 2018).

    Args:
        target: the share of images for which a branch is to be open.
        targets: site name of a branch (see `convgate.plan`) -> a target of its own.
        target_weight: of the loss term.
        hidden: units of a gate's hidden layer.
        temperature: of the sigmoid whose gradient is used.
        final_temperature: what the temperature falls to, exponentially, until the noise ends; None: it stays constant.
        noise: the share of the training in which decisions are sampled (all of it in the code); after that they are
            those of evaluation, and the gates keep learning.
        init: "whole": the gated network starts as the network it was made from; "paper": with the code's initial bias.
        bias: initial bias of the logits; None for 5, or 1.9 with `init="paper"`.

    """

    target: Share = 0.6
    targets: Mapping[str, Share] = field(default_factory=dict)
    target_weight: NotNegative = 2.0
    hidden: Size = 16
    temperature: Positive = 1.0
    final_temperature: Positive | None = None
    noise: Share = 1.0
    init: Init = "whole"
    bias: float | None = None

    @property
    def kinds(self) -> tuple[type[GateKind], ...]:
        return (Tiles,)

    def sites(self, trace: Trace) -> tuple[list[Site], list[Rejected]]:
        found, skipped = branches(trace)
        names = [branch.name for branch in found]
        unknown = [name for name in self.targets if name not in names]
        if unknown:
            raise PlanError(
                f"LayerSkipping(targets=..) names {', '.join(map(repr, unknown))}, and the model's residual branches "
                f"are: {', '.join(names) or 'none'}"
            )
        inside = {conv for branch in found for conv in branch.convs}
        outside = [str(n.target) for n in trace.evaluation.nodes if trace.convolution(n) and n.name not in inside]
        skipped.extend(Rejected(target, "is outside residual branches") for target in dict.fromkeys(outside))
        return [self._site(trace, branch) for branch in found], skipped

    def _site(self, trace: Trace, branch: Branch) -> Site:
        gate = GateSpec.of(trace, f"{branch.name}{_SUFFIX}", Tiles(None), reads=branch.fork, on=branch.last)
        # Masks inside of the branch change no output; they say that evaluation computes nothing there.
        inner = [end for end in dict.fromkeys(branch.ends) if end != branch.last]
        masks = tuple(MaskSpec(gate.name, end, training=False) for end in inner)
        last = MaskSpec(gate.name, branch.last)
        return Site(branch.name, branch.convs, trace.shapes[branch.join], (gate,), (*masks, last))

    def gate(self, spec: GateSpec) -> Gate:
        bias = self.bias if self.bias is not None else 5.0 if self.init == "whole" else 1.9
        head = ChannelHead(spec.channels, 1, hidden=self.hidden, bias=bias)
        nn.init.normal_(head.expand.weight, std=2**0.5 * 1e-3)
        return Gate(spec.offset_shape, head, partial(logistic_straight_through, temperature=self.temperature))

    def schedule(self, gates: GateSet, progress: float) -> None:
        anneal(gates, progress, noise=self.noise, start=self.temperature, end=self.final_temperature)

    def terms(self, decisions: Decisions, gates: GateSet, ledger: Ledger, progress: Progress) -> LossTerms:
        distances = [
            (self.targets.get(name.removesuffix(_SUFFIX), self.target) - decision.mask.mean()).square()
            for name, decision in decisions.items()
        ]
        return LossTerms(type(self).__name__, {"target": self.target_weight * torch.stack(distances).mean()})
