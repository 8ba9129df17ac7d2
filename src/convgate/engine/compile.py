"""`convgate.compile`: from a network to an engine."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from convgate.engine.engine import Engine
from convgate.engine.hybrid import Together
from convgate.engine.lowering import lower
from convgate.engine.lowering.settle import settle
from convgate.engine.precision import Precision, check_heads, in_precision
from convgate.errors import InputError
from convgate.preparation import Preparation
from convgate.reading.wrappers import unwrapped

__all__ = ["compile", "preparation_in"]


def compile(  # noqa: A001 -- the name that users look for, as torch.compile
    network: nn.Module,
    example: Any = None,
    *,
    threads: int | None = None,
    isa: str | None = None,
    precision: str | None = None,
    heads: int | None = None,
    fallback: str | None = None,
) -> Engine:
    """An engine that computes what `network` does in evaluation, skipping what its gates close.

    How images are prepared goes with it: `network.preparation`, where that is a `convgate.Preparation`.

    Args:
        network: a gated network, or any CNN that `torch.fx` can trace. Of a model with Python around its convolutions
            (a detector, see `convgate.gate`) the convolutional part is compiled: `engine(x)` takes images as the model
            prepares them and returns what each sub-module of the part does; `model.run_on(engine, images)` is the
            model with this engine in the part's place.
        example: float images [N, C, H, W], or whatever else the network takes; only for a network that is not gated.
        threads: how many cores; by default CONVGATE_THREADS, or all that this process may use.
        isa: which kernels, see `convgate.engine.instruction_sets`; by default CONVGATE_ISA, or the best.
        precision: "float32", which is the default, or "bf16": maps and weights are stored in bfloat16, at half the
            memory, and multiplied as fast as the processor can; sums, gates' heads, decisions and outputs stay float32.
            All that gates close is skipped in the same way. For 8-bit integers see `convgate.quantize`.
        heads: in bf16, how many weights a layer of a gate's head has at least to be in bf16, too (what it reads and its
            weights; logits stay float32); 0: all are, None: none is. Those of more than 65,536 weights come from
            memory in every call; what is gained, and how many gates then decide otherwise, is in
            `docs/design/precision.md`.
        fallback: "torch" lets PyTorch compute all nodes that have no native form; such an engine cannot
            be saved. `engine.explain()` says which they are, and what share of the MACs runs natively.

    Raises:
        LoweringError: nodes without a native form, all of them named.
        InputError: an argument of the wrong kind, no such instruction set or precision, no example; `heads` without
            bf16, or negative.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    >>> engine = compile(net, torch.zeros(1, 3, 8, 8), precision="bf16")
    >>> engine.precision, engine(torch.zeros(1, 3, 8, 8).numpy()).dtype
    (<Precision.BF16: 'bf16'>, dtype('float32'))

    """
    check_heads(heads)
    if heads is not None and precision != Precision.BF16:
        raise InputError(f"heads={heads} goes with precision='bf16'; precision is {precision!r}")
    with torch.no_grad():
        lowered = lower(network, example, fallback=fallback)
    program = in_precision(replace(lowered.program, preparation=preparation_in(network)), precision, heads=heads)
    if any(program.externals()):
        program = replace(program, fixed="PyTorch computes a part of it")
        return Engine(program, threads=threads, isa=isa, executor=Together(lowered.outside))
    assert lowered.at is not None
    return Engine(program, threads=threads, isa=isa, settle=partial(settle, again=lowered.at))


def preparation_in(network: nn.Module) -> Preparation | None:
    """How images are prepared for a network, gated or not, by its attribute `preparation`; its engines carry it."""
    preparation = getattr(unwrapped(network), "preparation", None)
    return preparation if isinstance(preparation, Preparation) else None
