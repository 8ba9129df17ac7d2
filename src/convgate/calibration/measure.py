"""One pass over the images: what the network costs as its gates are, and what it takes to say how that would change."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from convgate.calibration.price import Macs, Price
from convgate.errors import InputError
from convgate.gated import GatedModel, GatedNetwork
from convgate.gating import Decision, Decisions, Gate

__all__ = ["Measurement", "agreement", "computes_in_bfloat16", "decide_as", "measure"]

_HELD = 64 * 2**20
# Bytes of logits that a pass keeps, of the first images; enough for some hundred images of a ResNet-50.
_FAR = 1e4


@dataclass
class Measurement:
    """What a pass came to.

    `share` is the mean price over `images`, as a share of the dense network's. `held` has the decisions, with logits,
    of the first batches, and `held_share` their mean share. `macs` is the mean share of the dense MACs. `below` and
    `above` are for each gate the logits next to its threshold.
    """

    share: float = 0.0
    images: int = 0
    held: list[Decisions] = field(default_factory=list)
    held_share: float = 0.0
    macs: float = 0.0
    below: list[float] = field(default_factory=list)
    above: list[float] = field(default_factory=list)


@torch.no_grad()
def measure(
    network: GatedNetwork | GatedModel,
    price: Price,
    batches: Iterable[Any],
    on_batch: Callable[[int], None] = lambda images: None,
) -> Measurement:
    """Run the network, in evaluation mode, on the batches.

    Raises `InputError` where logits or outputs are not finite.
    """
    gates = list(network.gate_modules())
    device = gates[0][1].offset.device
    result = Measurement(below=[-_FAR] * len(gates), above=[_FAR] * len(gates))
    ledger = Macs(network)
    spent, macs, held_spent, held_images, held_bytes = 0.0, 0.0, 0.0, 0, 0
    for number, batch in enumerate(batches):
        output, decisions = network.decide(on(device, batch))
        ratios = price.total(decisions)
        spent += ratios
        macs += ledger.total(decisions)
        result.images += len(batch)
        for gate, (name, decision) in enumerate(decisions.items()):
            logits = decision.logits
            assert logits is not None
            low, high = _nearest(logits, decision.mask)
            if not (low > -float("inf") and high < float("inf")):  # NaN fails both
                raise InputError(
                    f"gate '{name}' has logits that are not finite (NaN or infinity) on batch {number}; check the "
                    "network's weights"
                )
            result.below[gate] = max(result.below[gate], low)
            result.above[gate] = min(result.above[gate], high)
        top1(output, number)  # for its error
        size = sum(d.logits.nbytes for d in decisions.values() if d.logits is not None)
        if not result.held or held_bytes + size <= _HELD:
            result.held.append(decisions)
            held_bytes, held_spent, held_images = held_bytes + size, held_spent + ratios, held_images + len(batch)
        on_batch(result.images)
    result.share, result.held_share = spent / result.images, held_spent / held_images
    result.macs = macs / result.images
    return result


@torch.no_grad()
def agreement(network: GatedNetwork | GatedModel, batches: Iterable[Any]) -> float | None:
    """The share of the images whose top class is the one with every gate open; None for outputs that are not logits.

    Both are computed of the same batch: a loader that shuffles or augments gives others in its next pass.
    """
    device = next(network.gate_modules())[1].offset.device
    kept, images = 0, 0
    for number, batch in enumerate(batches):
        batch = on(device, batch)
        output, decisions = network.decide(batch)
        opened = decisions.map(lambda _, d: Decision(d.kind, torch.ones_like(d.mask)))
        gated, whole = top1(output, number), top1(network.replay(batch, opened), number)
        if gated is None or whole is None:
            return None
        kept += int((gated == whole).sum())
        images += len(batch)
    return kept / images


def on(device: torch.device, images: Any) -> Any:
    """The images there; a batch on a CPU with channels last, in which convolutions are about a tenth faster."""
    if not isinstance(images, Tensor):
        return [image.to(device) for image in images]
    images = images.to(device)
    return images.contiguous(memory_format=torch.channels_last) if device.type == "cpu" else images


def computes_in_bfloat16(device: torch.device) -> bool:
    """Does the device compute in bfloat16 natively? There autocast makes a network faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def top1(output: object, batch: int) -> Tensor | None:
    """The class with the highest logit, int64 [N], of an output [N, classes]; None for any other output.

    Raises `InputError` where the output is not finite.
    """
    if not isinstance(output, Tensor) or output.dim() != 2 or not output.is_floating_point():
        return None
    if not bool(torch.isfinite(output).all()):
        raise InputError(
            f"the network's output is not finite (NaN or infinity) on batch {batch}; check its weights and the images"
        )
    return output.argmax(1).cpu()


def decide_as(gate: Gate, logits: Tensor) -> Tensor:
    """What `gate` decides in evaluation for these logits, offset included."""
    return (logits > 0 if gate.closed_at_zero else logits >= 0).to(logits.dtype)


def _nearest(logits: Tensor, mask: Tensor) -> tuple[float, float]:
    """(the highest logit of a closed unit, the lowest of an open one); far values where there is none."""
    open_ = mask > 0
    low = torch.where(open_, torch.full_like(logits, -_FAR), logits).max()
    high = torch.where(open_, logits, torch.full_like(logits, _FAR)).min()
    return float(low), float(high)
