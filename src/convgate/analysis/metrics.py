"""The figures of a run: accuracy, MACs and their spread, latency, and where they were measured."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

import torch

from convgate.analysis.evaluation import Evaluation
from convgate.analysis.judging import Judged
from convgate.analysis.spending import Spending
from convgate.analysis.static import StaticFigures
from convgate.bench.latency import Latency, Milliseconds
from convgate.errors import CheckpointError, InputError
from convgate.timing.machine import processor

__all__ = ["DenseFigures", "GatedFigures", "Metrics", "PrecisionFigures"]


@dataclass(frozen=True)
class DenseFigures:
    """The network before gating: its accuracy in [0, 1] (None where it is not known), its MACs per image.

    Of another task than classification, `accuracy` is the metric that `Metrics.metric` names.
    """

    accuracy: float | None
    macs: int


@dataclass(frozen=True)
class GatedFigures:
    """The gated network: accuracy in [0, 1]; mean share of the dense MACs, and percentiles of the images' shares.

    Of a network without gates: what training made of it, and all of its MACs.
    """

    accuracy: float
    macs_ratio: float
    macs_percentiles: Mapping[str, float]


@dataclass(frozen=True)
class PrecisionFigures:
    """The network as the engine has it in a precision: accuracy in [0, 1], mean share of the dense MACs, as executed.

    `scores` are all that the task's judge said. `dense_accuracy` is that of the network before gating in the same
    precision, None where it is not known. How long an image takes is in `Latency.precisions`.
    """

    accuracy: float
    macs_ratio: float
    scores: Mapping[str, float]
    dense_accuracy: float | None = None


@dataclass(frozen=True)
class Metrics:
    """What metrics.json holds.

    Attributes:
        dense: the network before gating.
        gated: the gated network, on the same images.
        test_images: how many images it was measured on.
        measured: which those are: "test", or "validation", images that were held out from training.
        machine: processor and threads that it was measured with, and the GPU, if one was used.
        versions: of convgate, torch and Python.
        budget: the share of the dense MACs that was calibrated to; None: to none.
        seed: the recipe's.
        seconds: step of the run -> how long it took.
        latency: of one image on the engine; None where it was not timed.
        static: the gated network with each unit fixed at its majority; None where that was not measured.
        metric: what `accuracy` is: "accuracy", "mIoU", "AP50", ..
        scores: "dense" and "gated" -> all that the task's judge said; empty for classification.
        precisions: "float32", "bf16" or "int8" -> the network on the engine; empty where that was not measured.

    """

    dense: DenseFigures
    gated: GatedFigures
    test_images: int
    machine: str
    versions: Mapping[str, str]
    budget: float | None = None
    seed: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    latency: Latency | None = None
    static: StaticFigures | None = None
    metric: str = "accuracy"
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    measured: str = "test"
    precisions: Mapping[str, PrecisionFigures] = field(default_factory=dict)

    @staticmethod
    def of(
        dense: Evaluation | Judged | None,
        gated: Evaluation | Judged,
        macs: int | None = None,
        device: torch.device | None = None,
    ) -> "Metrics":
        """The figures of evaluations on the same images, made on this machine, on `device` (None: the processor).

        `macs` is what a network without gates spends.
        """
        spending = gated.spending
        if spending is None and macs is not None:
            spending = Spending(torch.full((gated.images,), macs), macs, {}, {})
        if spending is None:
            raise InputError("Metrics.of(gated=..) has no spending; give what evaluate() returned for a GatedNetwork")
        return Metrics(
            DenseFigures(None if dense is None else dense.accuracy, spending.dense),
            GatedFigures(gated.accuracy, spending.ratio, spending.percentiles),
            gated.images,
            machine=_machine(device),
            versions={
                "convgate": version("convgate"),
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
            metric=gated.metric,
            scores={
                name: dict(one.scores)
                for name, one in (("dense", dense), ("gated", gated))
                if one is not None and len(one.scores) > 1
            },
        )

    def updated(self, measured: "Metrics") -> "Metrics":
        """These metrics with what was measured again; what the new ones do not know stays."""
        dense = (
            measured.dense
            if measured.dense.accuracy is not None
            else replace(measured.dense, accuracy=self.dense.accuracy)
        )
        return replace(
            measured,
            dense=dense,
            budget=self.budget,
            seed=self.seed,
            seconds=self.seconds,
            latency=measured.latency or self.latency,
            static=measured.static or self.static,
            precisions={**self.precisions, **measured.precisions},
        )

    def as_data(self) -> dict[str, Any]:
        """Plain data; the inverse of `from_data`. What is not known is left out, but for the dense accuracy."""
        data = asdict(self)
        if not self.scores:  # of classification, whose figures are as they have always been
            del data["metric"]
        if self.measured == "test":
            del data["measured"]
        unknown = [key for key in ("latency", "static", "scores", "precisions") if not data[key]]
        return {key: value for key, value in data.items() if key not in unknown}

    def to_json(self) -> str:
        """The text of metrics.json."""
        return json.dumps(self.as_data(), indent=2) + "\n"

    @staticmethod
    def from_json(text: str, source: str = "metrics.json") -> "Metrics":
        """The metrics in a text that `to_json` wrote. Raises `CheckpointError`, naming `source`, for another text."""
        try:
            data = json.loads(text)
            timed, static = data.get("latency"), data.get("static")
            return Metrics(
                **{
                    **data,
                    "dense": DenseFigures(**data["dense"]),
                    "gated": GatedFigures(**data["gated"]),
                    "latency": timed and _latency(timed),
                    "static": static and StaticFigures(**static),
                    "precisions": {k: PrecisionFigures(**one) for k, one in data.get("precisions", {}).items()},
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{source} does not hold the figures of a run ({error!r}); `convgate evaluate RUN --save` writes them"
            ) from error


def _latency(timed: Mapping[str, Any]) -> Latency:
    networks = {name: Milliseconds(**timed[name]) for name in ("dense", "gated")}
    others = {
        name: {which: Milliseconds(**one) for which, one in both.items()}
        for name, both in timed.get("precisions", {}).items()
    }
    return Latency(**{**timed, **networks, "precisions": others})


def _machine(device: torch.device | None) -> str:
    parts = [processor() or platform.machine(), f"{torch.get_num_threads()} threads"]
    if device is not None and device.type == "cuda":
        parts.append(torch.cuda.get_device_name(device))
    return ", ".join(parts)
