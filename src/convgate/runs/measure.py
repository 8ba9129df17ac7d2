"""What is measured of a gated network on the test images: accuracy, MACs, their spread, latency on the engine."""

import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from convgate.analysis import Evaluation, evaluate
from convgate.bench.latency import latency
from convgate.timing.machine import processor
from convgate.data import Batches, ImageSet
from convgate.errors import LoweringError
from convgate.gated import GatedNetwork
from convgate.training.parts import preparation

__all__ = ["EVALUATION_BATCH", "figures", "on_images", "time_on_engine", "where"]

EVALUATION_BATCH = 250


def on_images(network: nn.Module, images: ImageSet) -> Evaluation:
    """The network's predictions for a set of images, and what it spent."""
    return evaluate(network, Batches(images, EVALUATION_BATCH), prepare=preparation(images))


def figures(dense: Evaluation | None, gated: Evaluation) -> dict[str, Any]:
    """The numbers of an evaluation as plain data; without a dense network's, its accuracy is None."""
    spending = gated.spending
    assert spending is not None
    return {
        "dense": {"accuracy": None if dense is None else dense.accuracy, "macs": spending.dense},
        "gated": {
            "accuracy": gated.accuracy,
            "macs_ratio": spending.ratio,
            "macs_percentiles": spending.percentiles,
        },
        "test_images": len(gated.labels),
    }


def time_on_engine(
    dense: nn.Module,
    network: GatedNetwork,
    images: ImageSet,
    threads: int | None,
    say: Callable[[str], None],
    seconds: float = 4.0,
) -> dict[str, Any]:
    """{"latency": ..} on the engine, or nothing where it has no form for an operation of the model."""
    say("timing both networks on the engine")
    some = images.take(min(64, len(images)), 0)
    try:
        timed = latency(dense, network, preparation(images)(some.images[:]), seconds=seconds, threads=threads)
    except LoweringError as error:
        say(f"not timed: {error}")
        return {}
    return {"latency": timed}


def where() -> dict[str, Any]:
    """The machine and the versions."""
    from convgate import __version__

    return {
        "versions": {"convgate": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": f"{processor() or platform.machine()}, {torch.get_num_threads()} threads",
    }
