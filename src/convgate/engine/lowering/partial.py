"""Convolutions that are computed in part: the base path as a convolution, the rest of the sum as its completion."""

import torch
from torch import nn

from convgate.engine.lowering.draft import Draft, Rest, Symbol, Unsupported
from convgate.engine.lowering.layers import convolve
from convgate.engine.program import Affine, Complete, Conv, Operation, Pick, Slice
from convgate.gating.partial import shuffled_order

__all__ = ["base_path", "complete"]


def base_path(
    draft: Draft, layer: str, x: Symbol, conv: nn.Conv2d, parts: int, grouped: bool, shuffled: bool
) -> Symbol:
    """`convgate.gating.base_path`; what is left of the sum is noted in the draft. `layer` is its line of the ledger."""
    if conv.padding_mode != "zeros":
        raise Unsupported(f"a convolution with padding mode {conv.padding_mode!r}")
    channels, size = x.shape[0], x.shape[0] // parts
    order = (shuffled_order(channels, parts) if shuffled else torch.arange(channels)).tolist()
    weight = conv.weight[:, order]
    if grouped:
        reads = rest = _channels(draft, f"{layer}.shuffled", x, order)
        chunks = weight.split(conv.out_channels // parts)
        begins = [i * size for i in range(parts)]
        own = torch.cat([w[:, i : i + size] for w, i in zip(chunks, begins, strict=True)])
        others = torch.cat([torch.cat([w[:, :i], w[:, i + size :]], 1) for w, i in zip(chunks, begins, strict=True)])
    else:
        reads = _channels(draft, f"{layer}.first", x, order[:size])
        rest = _channels(draft, f"{layer}.others", x, order[size:])
        own, others = weight[:, :size], weight[:, size:]
    how = conv.stride, conv.padding, conv.dilation, parts if grouped else 1
    base = convolve(draft, f"{layer}.base", reads, own, conv.bias, *how, layer=layer)
    name = draft.array(f"{layer}.rest.weight", others)
    draft.rests[base.value] = Rest(rest.value, name, parts if grouped else 1)
    return base


def complete(draft: Draft, hint: str, full: Symbol, base: Symbol, gate: str) -> Symbol:
    """`convgate.gating.complete`: in place of the whole convolution, and of the norms after either of the two."""
    conv, open_norm = _before_norm(draft, full)
    part, norm = _before_norm(draft, base)
    if not isinstance(conv, Conv) or not isinstance(part, Conv) or part.output not in draft.rests:
        raise Unsupported("it combines something else than a convolution and its base path")
    rest = draft.rests[part.output]
    gone = {conv, open_norm, norm}
    draft.operations = [operation for operation in draft.operations if operation not in gone]
    out = draft.new(hint, base.shape)
    done = Complete(
        (rest.reads, part.output),
        out.value,
        rest.weight,
        part.layer,
        gate,
        part.stride,
        part.padding,
        part.dilation,
        rest.parts,
        scale=norm.scale if norm else "",
        shift=norm.shift if norm else "",
        open_scale=open_norm.scale if open_norm else "",
        open_shift=open_norm.shift if open_norm else "",
    )
    draft.emit(done)
    return out


def _before_norm(draft: Draft, symbol: Symbol) -> tuple[Operation | None, Affine | None]:
    """(what computed it, the norm after that, if there is one)."""
    writers = {operation.output: operation for operation in draft.operations}
    last = writers.get(symbol.value)
    if not isinstance(last, Affine):
        return last, None
    return writers.get(last.inputs[0]), last


def _channels(draft: Draft, hint: str, x: Symbol, wanted: list[int]) -> Symbol:
    """These channels of x; with the padding that its reader is still to put around it."""
    if wanted == list(range(x.shape[0])):
        return x
    out = draft.new(hint, (len(wanted), *x.shape[1:]))
    if wanted == list(range(wanted[0], wanted[0] + len(wanted))):
        draft.emit(Slice((x.value,), out.value, wanted[0]))
    else:
        draft.emit(Pick((x.value,), out.value, tuple(wanted)))
    return Symbol(out.value, out.shape, x.padding)
