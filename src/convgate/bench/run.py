"""The whole of `convgate bench`, for use from Python."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from convgate.bench.competitors import COMPETITORS, Competitor
from convgate.bench.measure import measure
from convgate.bench.result import Result
from convgate.bench.subject import prepare

__all__ = ["bench"]

_LOG = logging.getLogger(__name__)


def bench(
    model: str,
    method: str | None = None,
    macs: float | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    architecture: str | None = None,
    model_options: Mapping[str, Any] | None = None,
    competitors: Sequence[Competitor] = COMPETITORS,
    threads: int | None = None,
    batch: int = 1,
    size: int | None = None,
    images: Sequence[str] = (),
    labelled: str | None = None,
    given: Sequence[Any] = (),
    seconds: float = 30.0,
    rounds: int | None = None,
    near: float | None = None,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Result:
    """Time a network, dense and gated, in several engines.

    The arguments are those of `prepare` and `measure`, and so are the errors; `threads` is by default one per core.
    """
    from convgate.engine.threads import choose_threads

    threads = choose_threads(threads)
    _LOG.info("preparing %s", model)
    subject = prepare(
        model,
        method,
        macs,
        options=options,
        architecture=architecture,
        model_options=model_options,
        batch=batch,
        size=size,
        images=images,
        labelled=labelled,
        given=given,
        seed=seed,
    )
    result = measure(
        subject,
        competitors,
        threads=threads,
        seconds=seconds,
        rounds=rounds,
        near=near,
        seed=seed,
        progress=progress,
    )
    settings = {
        "model": model,
        "method": dict(subject.method),
        "macs_asked": subject.macs_asked,
        "batch": batch,
        "size": list(subject.inputs[0].shape[2:]),
        "sizes": [list(x.shape[2:]) for x in subject.inputs],
        "seed": seed,
        "threads": threads,
        "inputs": len(subject.inputs),
        "images": ", ".join(images) or ("given" if given else labelled or "random"),
        "labelled": len(subject.labelled.paths) if subject.labelled else 0,
    }
    return replace(result, settings=settings)
