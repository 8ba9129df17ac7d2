"""Channel gating (CGNet): every output activation is a partial sum, completed only where that is promising.

Hua, Zhou, De Sa, Zhang, Suh: Channel Gating Neural Networks, NeurIPS 2019; and the authors' PyTorch code
(cornell-zhang/dnn-gating, `CGConv2d`). What the method is, for a convolution of x with weights W:

- Base path: Yp = conv(x, W * M). M keeps 1/p of the input channels: the first chunk for all outputs, or for the i-th
  of p chunks of outputs the i-th chunk of the inputs (`groups`), optionally after a channel shuffle (`shuffle`).
- Full path: Y = conv(x, W), of which Yp is a part: what is left to compute is 1 - 1/p of it.
- Decision, for every output activation: logit = BN_g(Yp) - Delta, with BN_g a batch norm without affine parameters and
  Delta a learnable threshold per output channel; d = 1[sigmoid(alpha * logit) - 1/2 > 0]. A ReLU that follows makes
  zeros of what is small, so it is the large partial sums that are worth completing.
- Form "code": Z = Y * d + Yp * (1 - d), then the convolution's ordinary batch norm, once.
  Form "paper": d ? BN_2(Y) : BN_1(Yp), a batch norm for each path.
- Gradient of d: that of sigmoid(alpha * logit); if `sparse`, zero where the gate is closed.
- Loss term: weight * sum over layers and channels of (Delta - T)^2. There is no term in MACs: the target T is the knob,
  and `convgate.calibrate` hits a budget exactly.

Cost of a convolution: base path for all activations, the rest for the open ones: of its dense MACs the share
1/p + (1 - 1/p) * (open share). The decision compares, which costs no MACs; BN_g is not counted, like every batch norm.

Differences from the paper and its code:

- Any CNN. Where p does not divide the input channels (or, with `groups`, the output channels) the code drops the last
  ones silently; here the convolution is not gated, and the plan says so. Grouped convolutions are not gated.
- `shuffle` only chooses the channels of the base path; the weights keep their order, so that an open network is the
  original. The code shuffles the input of the whole convolution (`load_cgnet_weights` puts its weights in order).
- Form "paper": the paper draws two batch norms and its text leaves open what they see in training. Here both see all
  positions; BN_2 is the model's own, BN_1 starts from its scale and shift, and gets statistics of its own in training.
- `group`, one decision for neighbouring output channels, is for hardware and for engines; the paper has none. The
  optional channel-wise gate of the paper's equation 4 is not here, as it is not in the code.
- `convs="all"` is wider than the authors', who "replace convolutional layers followed by activation functions": it also
  gates what a sum follows (in a CIFAR ResNet-18 55 % of the gated MACs), where no ReLU makes zeros of what is small.
  `convs="activated"` is theirs: the first convolution of a basic block, or both where an activation stands before the
  sum.
- The defaults are those of the authors' `train_cg.sh`, but that script gates `convs="first"` only, and its thresholds
  start at 0 (`init="paper"`), which no trained network survives: a ResNet-20 falls to 9 % on CIFAR-10.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from torch import fx, nn

from convgate.cost import Ledger
from convgate.errors import InputError, PlanError
from convgate.gated.gate_set import GateSet
from convgate.gated.method import Method
from convgate.gated.options import Bounds, NotNegative, Positive, Size
from convgate.gated.plan import GateSpec, PartialSpec, Site
from convgate.gating import Activations, Decisions, Gate, GateKind, LossTerms, Progress, ThresholdHead, smooth_step
from convgate.gating.heads import Init
from convgate.methods.registry import register_method
from convgate.reading.structure import Rejected, branches, is_activated
from convgate.reading.trace import Trace

__all__ = ["ChannelGating"]

_LEFT_OUT = {"first": "not the first of a residual branch", "activated": "not followed by an activation"}


@register_method
@dataclass(frozen=True)
class ChannelGating(Method):
    """Channel gating (CGNet, NeurIPS 2019).

    Args:
        partitions: p; the base path reads 1/p of the input channels.
        groups: the base path is block-diagonal, so that all input channels serve as base for some outputs; else it is
            the first chunk of channels for all outputs.
        shuffle: the chunks are taken after a channel shuffle, so that each holds channels of all groups.
        convs: "all": every convolution but the first that can be partitioned; "activated": those of them that an
            activation follows, at once or behind a batch norm (the authors'); "first": the first of each residual
            branch; or the names of those to gate, which may include the first layer.
        form: "code": one batch norm, after the combination; "paper": one for each path (only convolutions that a
            batch norm follows are gated).
        group: how many neighbouring output channels share a decision, by the mean of their logits.
        init: "whole": thresholds start so low that everything is completed, and the gated network starts as the network
            it was made from; "paper": they start at 0, and half of it is not.
        threshold: initial Delta, in standard deviations of the partial sums; None for -4, or 0 with `init="paper"`.
        target: T, where the loss pulls the thresholds; the higher, the less is completed.
        weight: of that loss.
        alpha: slope of the sigmoid whose gradient is used.
        sparse: no gradient reaches a closed gate.

    """

    partitions: Annotated[int, Bounds(least=2)] = 4
    groups: bool = True
    shuffle: bool = False
    convs: Literal["all", "activated", "first"] | tuple[str, ...] = "all"
    form: Literal["code", "paper"] = "code"
    group: Size = 1
    init: Init = "whole"
    threshold: float | None = None
    target: float = 1.0
    weight: NotNegative = 1e-4
    alpha: Positive = 2.0
    sparse: bool = True

    # -- where gates sit -------------------------------------------------------------------------------------------

    @property
    def kinds(self) -> tuple[type[GateKind], ...]:
        return (Activations,)

    @property
    def penalises(self) -> tuple[type[GateKind], ...]:
        return (Activations,)

    def sites(self, trace: Trace) -> tuple[list[Site], list[Rejected]]:
        convs = [node for node in trace.evaluation.nodes if trace.convolution(node)]
        calls = Counter(str(node.target) for node in trace.evaluation.nodes if node.op == "call_module")
        chosen, rejected = self._chosen(trace, convs)
        sites = []
        for conv in convs:
            reason: str | None
            if conv.name not in chosen:
                reason = f"is {_LEFT_OUT.get(str(self.convs), 'not named')} (convs={self.convs!r})"
            elif calls[str(conv.target)] > 1:
                reason = f"is called {calls[str(conv.target)]} times; its calls share weights"
            else:
                reason = self._obstacle(trace, conv)
            if reason:
                rejected.append(Rejected(str(conv.target), reason))
            else:
                sites.append(self._site(trace, conv))
        return sites, list(dict.fromkeys(rejected))

    def _chosen(self, trace: Trace, convs: list[fx.Node]) -> tuple[set[str], list[Rejected]]:
        """The nodes of the convolutions that `convs` asks for, and what looks like a residual branch but is not one."""
        if self.convs == "all":
            return {conv.name for conv in convs}, []
        if self.convs == "activated":
            return {conv.name for conv in convs if is_activated(trace, conv)}, []
        if self.convs == "first":
            found, rejected = branches(trace)
            return {branch.convs[0] for branch in found}, rejected
        unknown = sorted(set(self.convs) - {str(conv.target) for conv in convs})
        if unknown:
            raise PlanError(
                f"ChannelGating(convs=..) names {', '.join(unknown)}, and the model's convolutions are "
                f"{', '.join(dict.fromkeys(str(conv.target) for conv in convs)) or 'none'}"
            )
        return {conv.name for conv in convs if str(conv.target) in self.convs}, []

    def _obstacle(self, trace: Trace, node: fx.Node) -> str | None:
        """Why a convolution cannot be computed in part; None if it can."""
        conv = trace.convolution(node)
        assert conv is not None
        if conv.groups > 1:
            return f"is a convolution in {conv.groups} groups; partial sums are of ordinary ones"
        if not _is_plain(conv):
            return f"is a {type(conv).__name__}, whose computation differs from a plain convolution's"
        if isinstance(self.convs, str) and not _is_behind_a_convolution(trace, node):
            return "reads the images; the first layer is never gated"
        if trace.shapes[node.all_input_nodes[0].name][2:] == (1, 1):
            return "works on one position only"
        for what, channels, matters in (("input", conv.in_channels, True), ("output", conv.out_channels, self.groups)):
            if matters and channels % self.partitions:
                return f"its {channels} {what} channels are not divided by {self.partitions} partitions"
        if self.form == "paper" and _norm_after(trace, node) is None:
            return 'is not followed by a BatchNorm2d alone, as form="paper" takes it; form="code" needs none'
        return None

    def _site(self, trace: Trace, node: fx.Node) -> Site:
        name, shape = str(node.target), trace.shapes[node.name]
        kind = Activations(shape[1], self.group)
        gate = GateSpec.of(trace, f"{name}.activation", kind, reads=node.name, on=node.name)
        norm = _norm_after(trace, node) if self.form == "paper" else None
        conditional = PartialSpec(gate.name, node.name, self.partitions, self.groups, self.shuffle, norm)
        return Site(name, (node.name,), shape, (gate,), (), partials=(conditional,))

    # -- how they decide -------------------------------------------------------------------------------------------

    def gate(self, spec: GateSpec) -> Gate:
        threshold = self.threshold if self.threshold is not None else -4.0 if self.init == "whole" else 0.0
        head = ThresholdHead(spec.channels, group=spec.group, threshold=threshold, init=self.init)
        estimator = partial(smooth_step, slope=self.alpha, sparse=self.sparse)
        # sigmoid(alpha * logit) > 1/2 is logit > 0.
        return Gate(spec.offset_shape, head, estimator, closed_at_zero=True)

    # -- what training adds ----------------------------------------------------------------------------------------

    def terms(self, decisions: Decisions, gates: GateSet, ledger: Ledger, progress: Progress) -> LossTerms:
        heads = [gate.head for _, gate in gates.named_gates()]
        distances = [(h.threshold - self.target).square().sum() for h in heads if isinstance(h, ThresholdHead)]
        terms = LossTerms(type(self).__name__)
        if distances:
            terms.add("thresholds", self.weight * torch.stack(distances).sum())
        elif heads:
            raise InputError("ChannelGating's term was given no gate with thresholds; its own gates have them")
        return terms


def _is_plain(conv: nn.Conv2d) -> bool:
    """Is its forward PyTorch's own, so that it is its weights and bias that make the output?"""
    own = type(conv)
    return own.forward is nn.Conv2d.forward and own._conv_forward is nn.Conv2d._conv_forward


def _is_behind_a_convolution(trace: Trace, node: fx.Node) -> bool:
    pending, seen = list(node.all_input_nodes), set[fx.Node]()
    while pending:
        source = pending.pop()
        if trace.convolution(source):
            return True
        pending.extend(n for n in source.all_input_nodes if n not in seen)
        seen.update(source.all_input_nodes)
    return False


def _norm_after(trace: Trace, conv: fx.Node) -> str | None:
    """The batch norm that alone reads a convolution, if there is one; not one that does more than normalise."""
    users = list(conv.users)
    layer = trace.layer(users[0]) if len(users) == 1 else None
    return users[0].name if type(layer) is nn.BatchNorm2d else None
