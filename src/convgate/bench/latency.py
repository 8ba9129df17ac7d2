"""How long an image takes on the engine, dense and gated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from convgate.engine import Engine
from convgate.errors import InputError
from convgate.gated import GatedModel, GatedNetwork
from convgate.reading.given import given_to
from convgate.reading.modes import evaluating
from convgate.timing.interleave import interleave

__all__ = ["Latency", "Milliseconds", "latency"]


@dataclass(frozen=True)
class Milliseconds:
    """Milliseconds per image: median, 20 % and 80 % quantile of `n` samples."""

    median_ms: float
    p20_ms: float
    p80_ms: float
    n: int


@dataclass(frozen=True)
class Latency:
    """One image at a time on the engine: the network before gating, the gated one, the quotient of their medians.

    `threads` of the engine, `isa` the instruction set of its kernels; both networks in float32. `precisions`: by their
    names, the times of the two, by "dense" and "gated", in precisions that were asked for, in the same turns.
    """

    dense: Milliseconds
    gated: Milliseconds
    speedup: float
    threads: int
    isa: str
    precisions: Mapping[str, Mapping[str, Milliseconds]] = field(default_factory=dict)


def _arrays(gated: GatedNetwork | GatedModel, images: Tensor | Sequence[Any]) -> list[np.ndarray]:
    """What an engine is given for each of the images: [1, C, H, W]."""
    if isinstance(images, Tensor):
        images = images.split(1)
    elif isinstance(gated, GatedModel):
        with evaluating(gated):
            images = [given_to(gated.network, gated, image) for image in images]
    return [np.ascontiguousarray(image.numpy(force=True)) for image in images]


def _turns(engine: Engine, images: list[np.ndarray]) -> Callable[[int], Any]:
    return lambda number: engine(images[number % len(images)])


def latency(
    dense: nn.Module,
    gated: GatedNetwork | GatedModel,
    images: Tensor | Sequence[Any],
    *,
    seconds: float = 4.0,
    threads: int | None = None,
    precisions: Mapping[str, Mapping[str, Engine]] | None = None,
) -> Latency:
    """Milliseconds per image of both networks on `convgate.engine`, one image at a time, in turns, on the same images.

    Args:
        dense: the network before gating.
        gated: the gated one.
        images: float [N, C, H, W], prepared as in training, or inputs of the networks, which may differ in size; each
            call takes the next one. Of a detector its convolutional part is timed, without what decodes its maps.
        seconds: how long to time.
        threads: threads of the engine; None for one per core.
        precisions: by their names, engines of the networks, by "dense" and "gated", in precisions to time, too.

    Raises:
        LoweringError: an operation has no native form.
        InputError: there is no image, or a network cannot be run on one.

    """
    from convgate.engine.compile import compile as to_engine

    if not len(images):
        raise InputError("latency() was given no images; give at least one")
    engines = {
        "dense": to_engine(dense, images[:1] if isinstance(images, Tensor) else images[0], threads=threads),
        "gated": to_engine(gated, threads=threads),
    }
    low = precisions or {}
    engines |= {f"{which} in {name}": engine for name, both in low.items() for which, engine in both.items()}
    single = _arrays(gated, images)
    for engine in engines.values():
        for image in single:  # what is made for a size is made before the clock runs
            engine(image)
    samples = interleave({name: _turns(engine, single) for name, engine in engines.items()}, seconds=seconds)
    quantiles = {
        name: np.quantile(sample.required(f"the {name} network"), [0.5, 0.2, 0.8]) for name, sample in samples.items()
    }
    timed = {
        name: Milliseconds(float(median), float(p20), float(p80), len(samples[name].milliseconds))
        for name, (median, p20, p80) in quantiles.items()
    }
    speedup = timed["dense"].median_ms / timed["gated"].median_ms
    times = {name: {which: timed[f"{which} in {name}"] for which in both} for name, both in low.items()}
    return Latency(timed["dense"], timed["gated"], speedup, engines["gated"].threads, engines["gated"].isa, times)
