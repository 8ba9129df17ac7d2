"""Global gater (GaterNet): a second network sees the image and says which filters of the first are used.

Chen, Li, Bengio, Si: You Look Twice: GaterNet for Dynamic Filter Selection in CNNs, CVPR 2019. What the method is:

- f = E(x), a CNN without its output layer (ResNet-20 for CIFAR, ResNet-18 for ImageNet); g' = FC2(relu(bn(FC1(f)))),
  with a bottleneck between (8 for CIFAR, 256 for ImageNet); one logit per gated filter.
- Training uses Improved SemHash (see `convgate.gating.improved_semhash`): noise N(0, 1), and one coin per image that
  says whether all gates of the image are binary or soft. Evaluation: open where g' > 0, without noise.
- A closed filter's output map is zero: after the norm, before a residual sum. Gated are the last convolution of each
  branch of a residual unit; in DenseNets each layer's output but the first layer's of each block; in Inception networks
  the maps of each concatenation.
- Loss term: lambda * (sum of the gates) / c, c the number of gates. The gater reads the image alone, so no gradient of
  this term reaches the backbone.
- DenseNet, Shake-Shake, Inception: dropout of the gates, from 0 to 0.05 in the course of training.
- Both networks are trained on the task first, separately, then jointly. In recipes: the gater's network has a recipe of
  its own (`cifar10-gater-paper`), which leaves its weights in dense.safetensors; name that file in `method.weights` of
  the recipe that trains the backbone, densely and then gated. Without it the gater starts at random, which a run warns
  of. In Python: give the trained gater without its output layer, or call `load_gater_weights`.

What the paper leaves open, and differences from it:

- lambda is published nowhere; ours is 0.1, chosen by nothing but size: the term is at most lambda.
- `norm=False` leaves the batch norm of the bottleneck out, as the released evaluation code does. The parameters are
  those of the paper's table in either case, to its two decimals: the norm has 16 for CIFAR.
- The paper's text gives ResNet-152 a bottleneck of 1024; its table has the parameters of 256.
- Evaluation opens a gate at a logit of 0 (the paper says above 0, the code, by its threshold, above -0.00003).
- FC2 starts nearly zero and with a bias of 3, so that a trained backbone is whole at the start; the code starts it as
  PyTorch does and without a bias, half open (`init="paper"`).
- FC2 is a layer per gated map, which share the bottleneck: the same weights, cut up.
- Dropped gates are not made up for by scaling the others, so that masks stay in [0, 1]. It is off unless asked for:
  `dropout=0.05`.
- Networks with neither residual units, dense layers nor concatenations: features that only convolutions read.
- A concatenation is gated part by part. Parts that end in no convolution (pooled maps) have gates that save nothing;
  a part that is read elsewhere as well has none, nor has a unit whose last layer is not a convolution.
- Training recipes put no weight decay on the gater, as on no gate (`gate_decay`); the paper does not say.
- The gater's MACs are counted for each image; on small backbones they exceed what the gates can save.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.cost import Ledger
from convgate.errors import CheckpointError, InputError, PlanError
from convgate.gated import TRUNK, GatedNetwork, GateSet
from convgate.gated.method import Method
from convgate.gated.options import NotNegative, Share, Size
from convgate.gated.plan import GateSpec, MaskSpec, Site
from convgate.gating import ChannelGroups, Decisions, Gate, GateKind, LinearHead, LossTerms, Progress, improved_semhash
from convgate.gating.heads import Init
from convgate.methods.channel_sites import outside_branches
from convgate.methods.registry import register_method
from convgate.models import create as create_model
from convgate.reading.joins import Join, concatenations, dense_layers, residual_units
from convgate.reading.modes import evaluating
from convgate.reading.structure import Rejected, features
from convgate.reading.trace import Trace
from convgate.weights import misfit

__all__ = ["Gater", "GlobalGater", "load_gater_weights"]

_SMALL = 64
# Images up to this height get what the paper uses for CIFAR, larger ones what it uses for ImageNet.


@register_method
@dataclass(frozen=True)
class GlobalGater(Method):
    """A global gater network (GaterNet, CVPR 2019).

    Args:
        gater: the network that sees the image: a name for `convgate.models.create`, or {"name": .., "options": {..}}
            for it, whose output layer is removed; or a module, from images to features [N, F], which is copied with its
            weights; or None for cifar_resnet20 (images of at most 64 pixels) or resnet18.
        bottleneck: units between the gater's features and the gates; None for 8 (images of at most 64 pixels) or 256.
        norm: a batch norm after the bottleneck's linear layer (the paper's text; the released code has none).
        sparsity_weight: lambda.
        dropout: the share of gates dropped at the end of training; it rises from 0 in proportion to progress.
        init: "whole": the gated network starts as the network it was made from; "paper": heads start as the sources
            start them, which disturbs a trained network at once.
        bias: initial bias of the logits; None for 3, or 0 with `init="paper"`. Beyond ln 11 = 2.4 the estimator has a
            gradient only where noise draws the logit back, so more than 3 would keep gates from learning.

    """

    gater: str | Mapping[str, Any] | nn.Module | None = None
    bottleneck: Size | None = None
    norm: bool = True
    sparsity_weight: NotNegative = 0.1
    dropout: Share = 0.0
    init: Init = "whole"
    bias: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.gater, str | nn.Module | None) and not _names_a_model(self.gater):
            raise InputError(
                f"GlobalGater(gater={self.gater!r}): gater is a model's name, its name and options, or a module. A "
                "checkpoint does not hold the code of a module of your own: convgate.load(path, "
                "method=GlobalGater(gater=...))"
            )
        super().__post_init__()

    # -- where the gates sit ---------------------------------------------------------------------------------------

    @property
    def kinds(self) -> tuple[type[GateKind], ...]:
        return (ChannelGroups,)

    def sites(self, trace: Trace) -> tuple[list[Site], list[Rejected]]:
        joins, skipped = residual_units(trace)
        what = "the last of a residual branch"
        if not joins:
            joins, what = dense_layers(trace), "a later layer of a dense block"
        if not joins:
            joins, what = concatenations(trace), "the end of a map that is concatenated"
        if not joins:
            joins, rejected = _plain(trace)
            return [self._site(trace, join) for join in joins], [*skipped, *rejected]
        gated = {conv for join in joins for conv in join.convs}
        others = [str(n.target) for n in trace.evaluation.nodes if trace.convolution(n) and n.name not in gated]
        skipped.extend(Rejected(target, f"is not {what}") for target in dict.fromkeys(others))
        return [self._site(trace, join) for join in joins], skipped

    def _site(self, trace: Trace, join: Join) -> Site:
        gates, masks = [], []
        for node, conv in zip(join.maps, join.convs, strict=True):
            target = str(trace.node(conv or node).target)
            name = target if trace.node(conv or node).op == "call_module" else node
            kind, width = ChannelGroups(trace.shapes[node][1]), self._width(trace.example)
            gate = GateSpec.of(trace, f"{name}.channel", kind, reads=TRUNK, on=node, channels=width)
            gates.append(gate)
            masks.append(MaskSpec(gate.name, node))
        convs = tuple(conv for conv in join.convs if conv)
        return Site(join.name, convs, trace.shapes[join.join], tuple(gates), tuple(masks))

    # -- how they decide -------------------------------------------------------------------------------------------

    def trunk(self, example: tuple[int, ...]) -> nn.Module:
        """The gater without its last layer, which is divided among the gates."""
        if isinstance(self.gater, nn.Module):
            network = copy.deepcopy(self.gater).to(torch.get_default_device())
        elif isinstance(self.gater, Mapping):
            network = _without_output(create_model(self.gater["name"], **self.gater.get("options", {})))
        else:
            network = _without_output(create_model(self.gater or _default(example)))
        return Gater(network, _features(network, example), self._width(example), norm=self.norm)

    def gate(self, spec: GateSpec) -> Gate:
        bias = self.bias if self.bias is not None else 3.0 if self.init == "whole" else 0.0
        return Gate(
            spec.offset_shape, LinearHead(spec.channels, spec.units, bias=bias, init=self.init), improved_semhash
        )

    def _width(self, example: tuple[int, ...]) -> int:
        return self.bottleneck or (8 if example[2] <= _SMALL else 256)

    # -- what training adds ----------------------------------------------------------------------------------------

    def terms(self, decisions: Decisions, gates: GateSet, ledger: Ledger, progress: Progress) -> LossTerms:
        masks = torch.cat([decision.mask.flatten(1) for decision in decisions.values()], 1)
        return LossTerms(type(self).__name__, {"sparsity": self.sparsity_weight * masks.mean()})

    def schedule(self, gates: GateSet, progress: float) -> None:
        _gater(gates).dropout.fill_(self.dropout * progress)

    def load_pretrained(self, gates: GateSet, state: Mapping[str, Tensor]) -> None:
        _load(_gater(gates), state)

    def describe(self) -> dict[str, Any]:
        description = super().describe()
        if isinstance(self.gater, nn.Module):
            description["options"]["gater"] = {"class": type(self.gater).__name__}
        return description


class Gater(nn.Module):
    """The gater up to its bottleneck. Images [N, C, H, W] -> (features [N, bottleneck], what the gates share).

    What they share in training: for each image whether its gates are binary (bool [N]), and the rate of dropout.

    Args:
        network: images -> [N, features].
        features: how many.
        bottleneck: units of FC1.
        norm: a batch norm after it.

    """

    dropout: Tensor

    def __init__(self, network: nn.Module, features: int, bottleneck: int, *, norm: bool) -> None:
        super().__init__()
        self.network = network
        self.reduce = nn.Linear(features, bottleneck)
        nn.init.zeros_(self.reduce.bias)
        self.norm = nn.BatchNorm1d(bottleneck) if norm else nn.Identity()
        # Not saved: `GlobalGater.schedule` sets it before each step.
        self.register_buffer("dropout", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        if self.training and len(images) < 2:
            raise InputError(
                "a gated network in training mode was given one image, and its gater normalises over the batch; give "
                "at least 2 images, or call .eval() first"
            )
        features = F.relu(self.norm(self.reduce(self.network(images).flatten(1))))
        if not self.training:
            return features, ()
        return features, (torch.rand(len(images), device=images.device) < 0.5, self.dropout)


def _gater(gates: nn.Module) -> Gater:
    trunk = GateSet.of(gates).trunk
    if not isinstance(trunk, Gater):
        raise InputError("these gates have no gater; give those of a network that was gated with GlobalGater")
    return trunk


def load_gater_weights(network: GatedNetwork, state: Mapping[str, Tensor]) -> None:
    """Load a gater that was trained on the task alone into a network gated with `GlobalGater`, in place.

    `state` is the state dict of the gater's network; its output layer is left out. Raises `CheckpointError` when the
    keys or shapes do not fit.
    """
    if not isinstance(network.convgate.trunk, Gater):
        raise InputError(f"the network was gated with {network.plan.method['name']}, which has no gater")
    _load(network.convgate.trunk, state)


def _load(trunk: Gater, state: Mapping[str, Tensor]) -> None:
    expected = trunk.network.state_dict()
    used = {key: tensor for key, tensor in state.items() if key in expected}
    left_over = sorted({key.rpartition(".")[0] for key in state.keys() - expected.keys()})
    problem = misfit(expected, used, optional=lambda key: key.endswith("num_batches_tracked"))
    if problem or len(left_over) > 1:
        raise CheckpointError(
            f"these weights do not fit the gater ({problem or 'unknown: ' + ', '.join(left_over)}); give those of the "
            "same network, with or without its output layer"
        )
    trunk.network.load_state_dict(used, strict=False)


def _names_a_model(given: Any) -> bool:
    return (
        isinstance(given, Mapping)
        and given.keys() <= {"name", "options"}
        and isinstance(given.get("name"), str)
        and isinstance(given.get("options", {}), Mapping)
    )


def _default(example: tuple[int, ...]) -> str:
    return "cifar_resnet20" if example[2] <= _SMALL else "resnet18"


def _without_output(model: nn.Module) -> nn.Module:
    """The model with an identity in the place of its last linear layer."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(f"the gater {type(model).__name__} has no linear output layer to remove; give a module")
    model.set_submodule(linear[-1], nn.Identity())
    return model


def _features(network: nn.Module, example: tuple[int, ...]) -> int:
    """How many features the gater's network makes of an image."""
    parameter = next(network.parameters())
    images = torch.zeros(1, *example[1:], device=parameter.device, dtype=parameter.dtype)
    try:
        with torch.no_grad(), evaluating(network):
            features = network(images)
    except Exception as error:
        raise PlanError(
            f"the gater {type(network).__name__} fails on images of shape {list(example[1:])}, which the model takes: "
            f"{error}; give another gater"
        ) from error
    if not isinstance(features, Tensor) or features.dim() < 2 or features[0].numel() != features.shape[1]:
        shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise PlanError(
            f"the gater {type(network).__name__} returns {shape} for an image; it must return [1, features]"
        )
    return features.shape[1]


def _plain(trace: Trace) -> tuple[list[Join], list[Rejected]]:
    """Features that only convolutions read, for networks in which nothing is joined."""
    found, rejected = features(trace)
    chosen, left = outside_branches(trace, found, frozenset(), everywhere=True)
    return [Join(f.name, f.end, (f.end,), (f.convs[-1],)) for f in chosen], [*rejected, *left]
