"""The figures of a run: accuracy, MACs and their spread, latency, and where they were measured."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

import torch

from convgate.analysis.evaluation import Evaluation
from convgate.bench.latency import Latency, Milliseconds
from convgate.errors import CheckpointError, InputError
from convgate.timing.machine import processor

__all__ = ["DenseFigures", "GatedFigures", "Metrics"]


@dataclass(frozen=True)
class DenseFigures:
    """The network before gating: its accuracy in [0, 1] (None where it is not known), its MACs per image."""

    accuracy: float | None
    macs: int


@dataclass(frozen=True)
class GatedFigures:
    """The gated network: accuracy in [0, 1]; mean share of the dense MACs, and percentiles of the images' shares."""

    accuracy: float
    macs_ratio: float
    macs_percentiles: Mapping[str, float]


@dataclass(frozen=True)
class Metrics:
    """What metrics.json holds.

    Attributes:
        dense: the network before gating, on the test images.
        gated: the gated network, on the test images.
        test_images: how many there are.
        machine: processor and threads that it was measured with.
        versions: of convgate, torch and Python.
        budget: the share of the dense MACs that was calibrated to; None: to none.
        seed: the recipe's.
        seconds: step of the run -> how long it took.
        latency: of one image on the engine; None where it was not timed.

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

    @staticmethod
    def of(dense: Evaluation | None, gated: Evaluation) -> "Metrics":
        """The figures of evaluations on the same images, made on this machine."""
        spending = gated.spending
        if spending is None:
            raise InputError("Metrics.of(gated=..) has no spending; give what evaluate() returned for a GatedNetwork")
        return Metrics(
            DenseFigures(None if dense is None else dense.accuracy, spending.dense),
            GatedFigures(gated.accuracy, spending.ratio, spending.percentiles),
            len(gated.labels),
            machine=f"{processor() or platform.machine()}, {torch.get_num_threads()} threads",
            versions={
                "convgate": version("convgate"),
                "torch": str(torch.__version__),
                "python": platform.python_version(),
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
        )

    def as_data(self) -> dict[str, Any]:
        """Plain data; the inverse of `from_data`. What is not known is left out, but for the dense accuracy."""
        data = asdict(self)
        return data if self.latency else {key: value for key, value in data.items() if key != "latency"}

    def to_json(self) -> str:
        """The text of metrics.json."""
        return json.dumps(self.as_data(), indent=2) + "\n"

    @staticmethod
    def from_json(text: str, source: str = "metrics.json") -> "Metrics":
        """The metrics in a text that `to_json` wrote. Raises `CheckpointError`, naming `source`, for another text."""
        try:
            data = json.loads(text)
            timed = data.get("latency")
            return Metrics(
                **{
                    **data,
                    "dense": DenseFigures(**data["dense"]),
                    "gated": GatedFigures(**data["gated"]),
                    "latency": timed
                    and Latency(**{**timed, **{k: Milliseconds(**timed[k]) for k in ("dense", "gated")}}),
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{source} does not hold the figures of a run ({error!r}); `convgate evaluate RUN --save` writes them"
            ) from error
