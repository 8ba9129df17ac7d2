"""Features as a second teacher: where gated and dense network can be compared inside, and how far apart they are.

Logits say little about what each layer should do. The features that leave a stage say it for every position and
channel: see docs/design/finetuning.md for what that brings.

Differences from the usual recipe (FitNets; Romero et al., 2015): both networks have the same layers, so nothing is
learned to map one's features to the other's, and each point counts relative to the teacher's own power there.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from convgate.gated import GatedNetwork

__all__ = ["Features", "comparable_layers", "distance"]

_INSERTED = "convgate_inserted"


def comparable_layers(network: GatedNetwork) -> list[str]:
    """Layers whose input no gate masks, in the order of execution: there gated and dense features mean the same.

    What a gate masks is zero on purpose; what leaves the sum of a residual block, or a layer whose output has no gate,
    is not. A depthwise convolution's input is not compared, since its gate skips that, too.
    """
    masked = {mask.node for site in network.plan.sites for mask in site.masks}
    found = []
    for node in network.graphs[False].nodes:
        sources = [source for source in node.all_input_nodes if source.op != "get_attr"]
        behind = [source for source in sources if source.name in masked]
        inserted = _INSERTED in node.meta
        layer = network.get_submodule(node.target) if node.op == "call_module" and not inserted else None
        if isinstance(layer, nn.Conv2d | nn.Linear):
            depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
            if not behind and not depthwise and sources[0].op != "placeholder" and node.target not in found:
                found.append(node.target)
        elif behind and (inserted or len(behind) == len(sources)):
            masked.add(node.name)
    return found


class Features:
    """The inputs of some layers of a network, kept during a forward pass; nothing stays on the modules.

    Of the layers that are comparable, those are taken whose input is the last of its resolution: stages' outputs, and
    what the classifier reads.
    """

    def __init__(self, network: GatedNetwork, dense: nn.Module, image: Tensor) -> None:
        self.layers = comparable_layers(network)
        with torch.no_grad(), self.of(dense) as inputs:
            dense(image)
        last = {tuple(x.shape[2:]): layer for layer, x in zip(self.layers, inputs, strict=True)}
        self.layers = list(last.values())

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[list[Tensor]]:
        """Within it, a forward pass of `model` adds the layers' inputs to the list, in the order of execution."""
        kept: list[Tensor] = []
        hooks = [
            model.get_submodule(name).register_forward_pre_hook(lambda _, given: kept.append(given[0]))
            for name in self.layers
        ]
        try:
            yield kept
        finally:
            for hook in hooks:
                hook.remove()


def distance(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Mean over the points of |ours - theirs|^2 / |theirs|^2, a scalar: 0 is equal, 1 is as far as zeros are."""
    terms = [
        (a.float() - b.detach().float()).square().mean() / b.detach().float().square().mean().clamp_min(1e-12)
        for a, b in zip(ours, theirs, strict=True)
    ]
    return torch.stack(terms).mean() if terms else torch.zeros(())
