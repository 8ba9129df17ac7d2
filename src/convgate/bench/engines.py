"""convgate's own engine, and the network in PyTorch, in the forms that are timed."""

from functools import partial

import torch
from torch import nn

from convgate.bench.built import Built
from convgate.bench.runtimes.compiled import in_torch
from convgate.bench.subject import Subject
from convgate.errors import LoweringError

__all__ = ["dense", "eager", "gated", "integer_dense", "integer_gated", "masked", "pruned"]


def eager(subject: Subject, _threads: int) -> Built:
    """The dense network, operation by operation."""
    return Built(in_torch(subject.dense, torch.inference_mode))


def masked(subject: Subject, _threads: int) -> Built:
    """The gated network as it is trained."""
    return Built(in_torch(subject.network, torch.inference_mode), "computes everything, then masks")


def dense(subject: Subject, threads: int, precision: str = "float32") -> Built:
    """The dense network."""
    return _compiled(subject.dense, subject, threads, precision)


def gated(subject: Subject, threads: int, precision: str = "float32", heads: int | None = None) -> Built:
    """The gated network; `heads`: see `convgate.compile`."""
    return _compiled(subject.network, subject, threads, precision, heads)


def pruned(subject: Subject, threads: int, precision: str = "float32") -> Built:
    """What is without gates what a finetuned network is with them."""
    from convgate.engine import load

    assert subject.pruned is not None
    engine = load(subject.pruned, threads=threads, precision=precision)
    return Built(engine, engine.isa, engine)


def integer_dense(subject: Subject, threads: int) -> Built:
    """The dense network in 8-bit integers."""
    return _quantised(subject.dense, subject, threads)


def integer_gated(subject: Subject, threads: int) -> Built:
    """The gated network in 8-bit integers."""
    return _quantised(subject.network, subject, threads)


def _quantised(network: nn.Module, subject: Subject, threads: int) -> Built:
    from convgate.quantization import quantize

    engine = quantize(network, [torch.from_numpy(images) for images in subject.scales], threads=threads)
    return Built(engine, engine.isa, engine)


def _compiled(network: nn.Module, subject: Subject, threads: int, precision: str, heads: int | None = None) -> Built:
    from convgate.engine.compile import compile as compile_engine

    example = None if network is subject.network else torch.from_numpy(subject.inputs[0])
    note, build = "", partial(compile_engine, network, example, threads=threads, precision=precision, heads=heads)
    try:
        engine = build()
    except LoweringError as error:
        engine = build(fallback="torch")
        note = f"PyTorch computes a part: {error}"
    return Built(engine, note or engine.isa, engine)
