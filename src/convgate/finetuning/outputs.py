"""What a finetuning leaves in its folder."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from convgate.checkpoint import save
from convgate.errors import ConvgateError, PlanError
from convgate.files import write_text
from convgate.finetuning.closing import Closing
from convgate.finetuning.closing.pruned import pruned
from convgate.finetuning.finetuned import Finetuned
from convgate.finetuning.report import report

__all__ = ["write"]

_SAME = 1e-4
# Rounding in another order; more would be another network.


def write(result: Finetuned, out: Path, closing: Closing | None, images: Tensor, say: Callable[[str], None]) -> None:
    """Write net.safetensors, net.cgm, pruned.cgm, result.json and report.html.

    Args:
        result: what is written.
        out: the folder.
        closing: what closed units for good, if anything did.
        images: a batch on which the pruned network is compared with the gated one.
        say: is told which file cannot be made, and why.

    """
    from convgate.engine.compile import compile as compile_engine

    for earlier in ("net.cgm", "pruned.cgm"):
        (out / earlier).unlink(missing_ok=True)
    save(result.network, out / "net.safetensors")
    try:
        compile_engine(result.network).save(out / "net.cgm")
    except ConvgateError as error:
        say(f"no net.cgm: {error}")
    if closing is not None and not result.after.changing:
        try:
            _write_pruned(result, out, closing, images)
        except ConvgateError as error:
            say(f"no pruned.cgm: {error}")
    write_text(out / "result.json", json.dumps(result.as_data(), indent=1))
    write_text(out / "report.html", report(result))


@torch.no_grad()
def _write_pruned(result: Finetuned, out: Path, closing: Closing, images: Tensor) -> None:
    """The network without its gates, which decide the same for every image."""
    from convgate.engine.compile import compile as compile_engine

    wanted, decisions = result.network.decide(images)
    # Of the first image, as of all.
    masks = {gate.gate: decisions[gate.gate].mask[0].flatten().bool().cpu() for gate in closing.gates}
    smaller = pruned(result.network, masks)
    apart = float((smaller(images) - wanted).abs().max() / wanted.abs().max())
    if not apart <= _SAME:  # nor if it is not a number
        raise PlanError(f"its answers differ by {apart:.1g}, relative to the largest")
    smaller.preparation = result.network.preparation  # type: ignore[assignment]
    compile_engine(smaller, images[:1].contiguous()).save(out / "pruned.cgm")
