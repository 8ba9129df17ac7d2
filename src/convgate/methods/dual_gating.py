"""Dual gating (DGNet): a spatial gate over tiles and channel gates over features, in every residual branch.

Li, Li, He, Cheng: Dynamic Dual Gating Neural Networks, ICCV 2021. What the method is:

- Spatial gate of a branch with input x and output resolution h x w, tiles of t x t:
  logits = conv3x3(adaptive_avg_pool(x, ceil(h/t) x ceil(w/t))); the mask is spread to positions, nearest neighbour.
- Channel gate of a feature: logits = conv1x1(relu(bn(conv1x1(gap(input of the feature's convolution))))).
- Training samples 1[logit + logistic noise >= 0] with the gradient of a sigmoid at temperature 2/3; evaluation takes
  1[logit >= 0].
- The branch's output is multiplied by the spatial mask, its features by the channel masks. In evaluation the features
  are also multiplied by the spatial mask: closed positions are not computed at all, and no halo is.
- Loss terms: budget = lambda (F / F_dense - T)^2 with F the mean MACs, gates included; and bounds that keep gates from
  collapsing early: with p = exp(-annealing * progress), t = sqrt(T) and rho the mean density of a gate,
  gamma * sum over kinds of [mean relu(p t - rho)^2 + mean relu(rho - (1 - p + p t))^2].

Differences from the paper and its code:

- Any CNN: a bottleneck's or inverted residual's gates follow from the graph (see `convgate.reading.structure`). In a
  network without residual branches the channel gates alone are used (`where`).
- Squeeze-and-excitation inside a branch reads the masked feature and is always computed.
- The code's annealing counts epochs; here it follows the share of training done, so that a shorter run anneals as far
  (0.02 x 300 epochs = 6 for CIFAR-10, 0.05 x 100 = 5 for ImageNet, 0.05 x 200 = 10 for MobileNetV2).
- Positions are counted as they are computed, also where a tile does not divide the map.
- `masks="equal"`, `dilated`, `filled`, `counted="noise_free"`, `budget_annealing` above 0, `noise` below 1 and
  `final_temperature` are ours; the defaults are the paper's. `joint=False` is the plain combination of a spatial and a
  channel method, to compare with.
- MobileNetV2: the code's bounds are means over all 17 blocks, the 7 that are not gated with a density of 1; here they
  are means over the 10 gated ones, and weigh 1.7 times as much.
- Heads start with a last layer that is nearly zero (AIG's way), so that a trained network is whole at the start. The
  code starts them at random (`init="paper"`): logits of spatial gates then have a standard deviation of 1.6 to 4 and
  an offset that the seed alone decides, and a trained ResNet-20 falls to 21 to 31 % on CIFAR-10 (five seeds, 256
  training images, training mode; `docs/design/finetuning.md` has one seed on test images).
"""

import math
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from convgate.cost import Ledger
from convgate.errors import InputError, PlanError
from convgate.gated.gate_set import GateSet
from convgate.gated.method import Ablation, Method
from convgate.gated.options import BudgetShare, NotNegative, Positive, Share, Size
from convgate.gated.plan import FillSpec, GateSpec, MaskSpec, Site, Ungated
from convgate.gating import (
    NO_REACH,
    ChannelGroups,
    ChannelHead,
    Decisions,
    Gate,
    GateKind,
    LossTerms,
    Progress,
    SpatialHead,
    Tiles,
    logistic_straight_through,
    ramp,
    threshold_straight_through,
)
from convgate.gating.heads import Init
from convgate.methods.channel_sites import channel_gate, feature_site, inside_branches, outside_branches
from convgate.methods.registry import register_method
from convgate.methods.sampling import anneal, temperature_at
from convgate.reading.reach import reaches
from convgate.reading.structure import Branch, Feature, Rejected, branches, features
from convgate.reading.trace import Trace

__all__ = ["DualGating"]


_HALF = float("0.5")
# The default budget: an object of its own, by which one that was given can be told from none.


@register_method
@dataclass(frozen=True)
class DualGating(Method):
    """Dynamic dual gating (DGNet, ICCV 2021).

    >>> import convgate
    >>> model, example = convgate.create_model("cifar_resnet8"), torch.zeros(1, 3, 16, 16)
    >>> net = convgate.gate(model, DualGating(dilated=True), example)
    >>> {layer.name: layer.reach for layer in net.ledger.layers if layer.positions == "layer1.0.spatial"}
    {'layer1.0.conv1': (1, 1), 'layer1.0.conv2': (0, 0)}

    Args:
        budget: what training aims at, as a share of the dense MACs, in (0, 1].
        spatial: use spatial gates.
        channel: use channel gates.
        tile: side of a tile in positions: one number (1 = fine-grained), or a mapping from the height of a branch's
            output to a number, or None for the paper's: 7x7 tiles per map where 7 divides its height (224-pixel
            ImageNet networks: 8, 4, 2, 1), else 8x8 with a side of at least 2 (CIFAR networks: 4, 2, 2).
        pixels: side of a tile in pixels of the image, instead of `tile`: 64 are 16 positions at a quarter of the
            image's resolution, 8 at an eighth, .. (the authors' detectors), whatever the size of the images.
        group: how many neighbouring channels share a channel gate (for hardware).
        masks: "paper": in training, only the branch's output is masked by the spatial gate; "equal": training masks
            everything that evaluation masks.
        dilated: masks inside of a branch are dilated as far as the convolutions behind them read, so that an open tile
            is computed from what the whole branch computes. In the paper it is computed from zeros at its rim, where
            the next tile is closed; the positions that are computed more cost their MACs, and are counted.
        filled: closed tiles of a branch's output are filled with what a 1x1 convolution makes of their mean in the
            branch's input, for a few MACs, instead of the shortcut being all that is left there (as in the paper).
        counted: "sampled": budget and bounds count the sampled masks (paper); "noise_free": they count the masks that
            evaluation would use, so that evaluation lands where training aimed.
        budget_annealing: the share of the training in which the budget falls evenly from 1 to `budget` (0 in the
            paper): a network that is already trained forgets less that way.
        where: "branches": residual branches only; "everywhere": also channel gates on features outside of them;
            "auto": "everywhere" in a network that has no residual branch.
        noise: the share of the training in which decisions are sampled (all of it in the paper); after that they are
            those of evaluation, and the gates keep learning.
        joint: one budget, in MACs, for gates of both kinds; False: each gate by itself is driven to a density of
            sqrt(budget), as if methods of one kind were combined (the budget term is then the mean over gates).
        temperature: of the sigmoid whose gradient is used.
        final_temperature: what the temperature falls to, exponentially, until the noise ends; None: it stays constant.
        init: "whole": the gated network starts as the network it was made from; "paper": heads start as the sources
            start them, which disturbs a trained network at once.
        bias: initial bias of the logits; None for 5, with which sampling closes 0.7 % of the units at the start and
            evaluation none, or the code's 2 with `init="paper"`.
        reduction: of the channel gate's hidden layer.
        budget_weight: lambda.
        bounds_weight: gamma.
        annealing: how fast the bounds open.
        macs: the former name of `budget` (what used to be called `budget` is now `counted`).

    """

    former_options: ClassVar[frozenset[str]] = frozenset({"macs"})
    ablations: ClassVar[Mapping[str, Ablation]] = {
        "apart": Ablation(
            "Spatial and channel gates simply combined, each drawn to a density of its own instead of to one budget",
            {"joint": False, "bounds_weight": 0.0},
        )
    }

    budget: BudgetShare = _HALF
    spatial: bool = True
    channel: bool = True
    tile: Size | Mapping[int, Size] | None = None
    pixels: Size | None = None
    group: Size = 1
    masks: Literal["paper", "equal"] = "paper"
    dilated: bool = False
    filled: bool = False
    counted: Literal["sampled", "noise_free"] = "sampled"
    budget_annealing: Share = 0.0
    where: Literal["auto", "branches", "everywhere"] = "auto"
    noise: Share = 1.0
    joint: bool = True
    temperature: Positive = 0.66667
    final_temperature: Positive | None = None
    init: Init = "whole"
    bias: float | None = None
    reduction: Size = 4
    budget_weight: NotNegative = 5.0
    bounds_weight: NotNegative = 1.0
    annealing: float = 6.0
    macs: InitVar[float | None] = None

    def __post_init__(self, macs: float | None) -> None:
        self._take_former(macs)
        super().__post_init__()
        if not self.spatial and not self.channel:
            raise InputError("DualGating(spatial=False, channel=False) gates nothing; switch at least one on")
        if self.tile is not None and self.pixels is not None:
            raise InputError(f"DualGating(tile={self.tile}, pixels={self.pixels}): give one of the two")

    def _take_former(self, macs: float | None) -> None:
        """Options as earlier versions named them: `macs` was the budget, and `budget` what it counts."""
        if self.budget in ("sampled", "noise_free"):
            object.__setattr__(self, "counted", self.budget)
            object.__setattr__(self, "budget", _HALF)
        if macs is not None:
            if self.budget is not _HALF:
                raise InputError(f"DualGating(budget={self.budget!r}, macs={macs!r}): give the budget alone")
            object.__setattr__(self, "budget", macs)

    def with_budget(self, share: float) -> "DualGating":
        return replace(self, budget=share)

    @property
    def kinds(self) -> tuple[type[GateKind], ...]:
        return (*((Tiles,) if self.spatial else ()), *((ChannelGroups,) if self.channel else ()))

    # -- where the gates sit ---------------------------------------------------------------------------------------

    def sites(self, trace: Trace) -> tuple[list[Site], list[Rejected]]:
        found, skipped = branches(trace)
        channel_features, rejected = features(trace)
        reasons = {r.name: r.reason for r in rejected}
        by_conv = {conv: f for f in channel_features for conv in f.convs}
        sites = [self._branch_site(trace, branch, by_conv, reasons) for branch in found]
        inside = inside_branches(found)
        everywhere = self.where == "everywhere" or (self.where == "auto" and not found)
        if self.channel:
            outside, left = outside_branches(trace, channel_features, inside, everywhere=everywhere)
            sites.extend(feature_site(trace, f, channel_gate(trace, f, self.group)) for f in outside)
            skipped.extend(left)
        else:
            reason = "is outside residual branches, and channel gates are off"
            outside_convs = [c for f in channel_features for c in f.convs if not inside.intersection(f.convs)]
            skipped.extend(Rejected(str(trace.node(conv).target), reason) for conv in outside_convs)
        named = {str(trace.node(conv).target) for conv in inside}
        skipped.extend(r for r in rejected if r.name not in named)
        skipped.extend(Rejected(site.name, "has nothing that a gate would save") for site in sites if not site.gates)
        return [site for site in sites if site.gates], skipped

    def _branch_site(
        self, trace: Trace, branch: Branch, by_conv: Mapping[str, Feature], reasons: Mapping[str, str]
    ) -> Site:
        gates: list[GateSpec] = []
        masks: list[MaskSpec] = []
        skipped: list[Ungated] = []
        spatial = self._spatial_gate(trace, branch) if self.spatial else None
        if spatial and not any(_is_tiled(trace, end, branch, spatial) for end in branch.ends):
            skipped.append(Ungated(branch.name, "has no convolution at a resolution that tiles could gate", Tiles))
            spatial = None
        if spatial:
            gates.append(spatial)
        reach = reaches(trace, branch) if spatial and self.dilated else dict.fromkeys(branch.ends, NO_REACH)
        for conv, end in zip(branch.convs, branch.ends, strict=True):
            feature = by_conv.get(conv)
            if feature and self.channel and feature.convs[-1] == conv:
                gate = channel_gate(trace, feature, self.group)
                gates.append(gate)
                masks.append(MaskSpec(gate.name, feature.end))
            elif not feature and end != branch.last:
                target = str(trace.node(conv).target)
                skipped.append(Ungated(target, reasons[target], ChannelGroups))
            if spatial and end in branch.pooled:
                needs = f"is computed at every position: {branch.pooled[end]} needs all of them for its statistics"
                skipped.append(Ungated(str(trace.node(conv).target), needs, Tiles))
            elif spatial and end != branch.last and _is_tiled(trace, end, branch, spatial):
                if end in reach:
                    masks.append(MaskSpec(spatial.name, end, training=self.masks == "equal", reach=reach[end]))
                else:
                    unknown = "is computed at every position: how far what follows reads it is not known"
                    skipped.append(Ungated(str(trace.node(conv).target), unknown, Tiles))
        if spatial:
            masks.append(MaskSpec(spatial.name, branch.last))
        fills = (FillSpec(spatial.name, branch.last, trace.shapes[branch.last][1]),) if spatial and self.filled else ()
        output = trace.shapes[branch.join]
        return Site(branch.name, branch.convs, output, tuple(gates), tuple(masks), tuple(skipped), fills=fills)

    def _spatial_gate(self, trace: Trace, branch: Branch) -> GateSpec:
        kind = Tiles(self._tile(branch, trace.example[2]))
        return GateSpec.of(trace, f"{branch.name}.spatial", kind, reads=branch.fork, on=branch.last)

    def _tile(self, branch: Branch, pixels: int) -> int:
        """The side of a branch's tiles, for images that are `pixels` high."""
        size = branch.height
        if self.pixels is not None:
            return min(max(1, round(self.pixels * size / pixels)), size, branch.width)
        if self.tile is None:
            tile = size // 7 if size % 7 == 0 else max(2, math.ceil(size / 8))
            return min(tile, size, branch.width)
        if isinstance(self.tile, Mapping):
            if size not in self.tile:
                raise PlanError(
                    f"branch '{branch.name}' has an output of height {size}, and DualGating(tile={self.tile}) names "
                    f"no tile for it; add {size}: <side of a tile>, or leave tile out"
                )
            tile = self.tile[size]
        else:
            tile = self.tile
        if tile > min(branch.height, branch.width):
            raise PlanError(
                f"tile {tile} is larger than the {branch.height}x{branch.width} output of branch '{branch.name}'; "
                "give larger images, a smaller tile, or a mapping from height to tile"
            )
        return tile

    # -- how they decide -------------------------------------------------------------------------------------------

    def gate(self, spec: GateSpec) -> Gate:
        estimator = partial(logistic_straight_through, temperature=self.temperature)
        bias = self.bias if self.bias is not None else 5.0 if self.init == "whole" else 2.0
        match spec.kind:
            case Tiles():
                head: nn.Module = SpatialHead(spec.channels, bias=bias, init=self.init)
            case ChannelGroups(groups=groups):
                head = ChannelHead(spec.channels, groups, reduction=self.reduction, bias=bias, init=self.init)
            case kind:
                raise InputError(f"DualGating has gates of tiles and of groups of channels, not {kind!r}")
        return Gate(spec.offset_shape, head, estimator)

    def schedule(self, gates: GateSet, progress: float) -> None:
        anneal(gates, progress, noise=self.noise, start=self.temperature, end=self.final_temperature)

    # -- what training adds ----------------------------------------------------------------------------------------

    def terms(self, decisions: Decisions, gates: GateSet, ledger: Ledger, progress: Progress) -> LossTerms:
        counted = decisions if self.counted == "sampled" else self._without_noise(decisions, progress)
        share = ledger.cost(counted).macs.float().mean() / ledger.dense
        budget = self.budget_at(progress)
        target = budget**0.5
        p = math.e ** (-self.annealing * progress)
        bounds = torch.zeros_like(share)
        apart = []
        for kind in (Tiles, ChannelGroups):
            densities = [d.density.mean() for d in counted.of_kind(kind).values()]
            if densities:
                rho = torch.stack(densities)
                apart.append((rho - target).square())
                too_low = F.relu(p * target - rho).square().mean()
                too_high = F.relu(rho - (1 - p + p * target)).square().mean()
                bounds = bounds + too_low + too_high
        distance = (share - budget).square() if self.joint else torch.cat(apart).mean()
        terms = {"budget": self.budget_weight * distance, "bounds": self.bounds_weight * bounds}
        return LossTerms(type(self).__name__, terms)

    def budget_at(self, progress: Progress) -> Progress:
        """The share of the dense MACs that training aims at when the share `progress` of it is done."""
        return self.budget + (1 - self.budget) * (1 - ramp(progress, 0.0, self.budget_annealing))

    def _without_noise(self, decisions: Decisions, progress: Progress) -> Decisions:
        temperature = temperature_at(progress, start=self.temperature, end=self.final_temperature, noise=self.noise)
        return decisions.map(
            lambda _, d: d if d.logits is None else replace(d, mask=threshold_straight_through(d.logits, temperature))
        )


def _is_tiled(trace: Trace, node: str, branch: Branch, gate: GateSpec) -> bool:
    """Is the map at `node` at least as fine as the tiles? (One that was pooled to 1x1 inside the branch is not.)"""
    height, width = trace.shapes[node][2:]
    _, rows, columns = gate.shape
    pooled = (height, width) == (1, 1) != (branch.height, branch.width)
    return height >= rows and width >= columns and not pooled
