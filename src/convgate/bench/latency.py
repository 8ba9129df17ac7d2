"""How long an image takes on the engine, dense and gated."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from convgate.engine import Engine
from convgate.gated import GatedNetwork
from convgate.timing.interleave import interleave

__all__ = ["latency"]


def _turns(engine: Engine, images: list[np.ndarray]) -> Callable[[int], Any]:
    return lambda number: engine(images[number % len(images)])


def latency(
    dense: nn.Module, gated: GatedNetwork, images: Tensor, *, seconds: float = 4.0, threads: int | None = None
) -> Mapping[str, Any]:
    """Milliseconds per image of both networks on `convgate.engine`, one image at a time, in turns, on the same images.

    Args:
        dense: the network before gating.
        gated: the gated one.
        images: float [N, C, H, W], prepared as in training; each call takes the next one.
        seconds: how long to time.
        threads: of the engine; None for one per core.

    Returns `dense` and `gated`, each {"median_ms", "p20_ms", "p80_ms", "n"}, with `speedup`, the quotient of the
    medians, `threads` and `isa`. Raises what `convgate.compile` raises for an operation that has no native form.

    """
    from convgate.engine.compile import compile as to_engine

    engines = {
        "dense": to_engine(dense, images[:1], threads=threads),
        "gated": to_engine(gated, threads=threads),
    }
    single = [np.ascontiguousarray(image.numpy(force=True)[None]) for image in images]
    samples = interleave({name: _turns(engine, single) for name, engine in engines.items()}, seconds=seconds)
    result: dict[str, Any] = {}
    for name, sample in samples.items():
        p20, median, p80 = np.quantile(sample.milliseconds, [0.2, 0.5, 0.8])
        result[name] = {"median_ms": median, "p20_ms": p20, "p80_ms": p80, "n": len(sample.milliseconds)}
    result["speedup"] = result["dense"]["median_ms"] / result["gated"]["median_ms"]
    return result | {"threads": engines["gated"].threads, "isa": engines["gated"].isa}
