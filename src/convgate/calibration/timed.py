"""Calibration to milliseconds: the search asks a latency model, and the engine is timed under what it found."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convgate.calibration.measure import on
from convgate.calibration.price import Milliseconds
from convgate.engine import Engine
from convgate.engine.precision import Precision
from convgate.errors import InputError
from convgate.gated import GatedModel, GatedNetwork
from convgate.gating import Decisions
from convgate.latency import LatencyModel, fit_latency, watch
from convgate.reading.given import given_to

__all__ = ["Timed", "latency_model"]

_IMAGES = 32
# At most; times differ by image, but the model's factor hardly does.
_AVERAGED = 3
# Measurements; see `Timed`.
_NEAR = 0.01
# A model that is off by less is not corrected: measurements repeat no better.


@dataclass
class Timed:
    """An engine and the model of its times, which measurements correct.

    `off` is by which factor the model was off when the engine was timed last. All measurements are next to one target,
    so that the factor they ask for is taken to be the mean of the last three.
    """

    network: GatedNetwork | GatedModel
    engine: Engine
    model: LatencyModel
    off: float = 1.0
    factors: list[float] = field(default_factory=list)

    @property
    def price(self) -> Milliseconds:
        """What the search asks."""
        return Milliseconds(self.network, self.model)

    @torch.no_grad()
    def correct(self, batches: Iterable[Any]) -> bool:
        """Time the engine under the network's present decisions; whether the model had to be corrected."""
        images, masks = [], []
        device = next(self.network.gate_modules())[1].offset.device
        for batch in batches:
            for prepared, decisions in _decided(self.network, on(device, batch)):
                given = decisions.numpy()
                # Each mask in memory of its own, in the order of its indices, as the engine reads them.
                masks += [{gate: m[n : n + 1].copy() for gate, m in given.items()} for n in range(len(prepared))]
                images += [np.ascontiguousarray(image[None].numpy(force=True), np.float32) for image in prepared]
        images, masks = images[:_IMAGES], masks[:_IMAGES]
        took = self._took(images, masks)
        expected = np.concatenate([self.model.milliseconds(mask) for mask in masks])
        self.factors.append(self.model.factor * took / float(expected.mean()))
        self.off = float(np.mean(self.factors[-_AVERAGED:])) / self.model.factor
        if abs(self.off - 1) <= _NEAR:
            return False
        self.model = self.model.scaled(self.off)
        return True

    def _took(self, images: Sequence[np.ndarray], masks: Sequence[Mapping[str, np.ndarray]]) -> float:
        """Milliseconds per image of an engine whose gates decide so by themselves, as users run it.

        Scales of integers were chosen on images that are not at hand; an engine of integers is handed the masks, and
        what that costs is taken off. (Other engines decide otherwise than PyTorch where a logit is next to its
        threshold; the factor takes that in.)
        """
        clock = self.model.origin.clock
        if self.engine.precision is not Precision.INT8:
            engine = _compiled(
                self.network,
                threads=self.engine.threads,
                isa=self.engine.isa,
                precision=self.engine.precision,
                fallback="torch",
            )
            return watch(engine, images, clock=clock).mean
        took = watch(self.engine, images, masks, clock=clock).mean - self.model.handed
        if took <= 0:
            raise InputError(
                f"handing masks in costs {self.model.handed:.4g} ms by the latency model, and the engine was timed at "
                f"{took + self.model.handed:.4g} ms with it; on a quiet machine, fit the model again: "
                "convgate.latency.fit_latency(engine)"
            )
        return took


def _compiled(network: GatedNetwork | GatedModel, **how: Any) -> Engine:
    from convgate.engine.compile import compile as compile_engine  # what it needs takes long to import

    return compile_engine(network, **how)


def _decided(network: GatedNetwork | GatedModel, batch: Any) -> Iterator[tuple[Tensor, Decisions]]:
    """(what the engine is given, what is decided for it): of a batch, or of a detector's images one by one."""
    if isinstance(network, GatedNetwork):
        yield batch, network.decide(batch)[1]
        return
    for image in batch:  # none is padded for another
        prepared = given_to(network.network, network, [image])
        yield prepared, network.network.decide(prepared)[1]


def latency_model(
    network: GatedNetwork | GatedModel,
    engine: Engine | None,
    latency: LatencyModel | None,
    progress: Callable[[float], None],
) -> Timed:
    """The engine of a network, compiled if none was given, with a model of its times, fitted if none was given.

    Raises `InputError` for an engine of another network, and for a model of another engine or machine.
    """
    if engine is None:
        engine = _compiled(network)
    if not isinstance(engine, Engine):
        raise InputError(f"engine: a {type(engine).__name__}; give what convgate.compile(net) returns")
    own = {spec.name: tuple(spec.shape) for spec in network.plan.gates}
    theirs = {gate.name: gate.shape for gate in engine.program.gates}
    if own != theirs or engine.program.value(engine.program.inputs[0]).shape != tuple(network.plan.example[1:]):
        raise InputError(
            f"the engine is of another network or for another size: it has {len(theirs)} gates and this network has "
            f"{len(own)}, and their names, masks or images differ; give convgate.compile(net)"
        )
    if latency is None:
        latency = fit_latency(engine, progress=progress)
        logging.getLogger("convgate").info(
            "latency model of the engine: off by %.1f %% under masks that it was not fitted to; one time differs from "
            "the next by %.1f %%",
            100 * latency.error,
            100 * latency.spread,
        )
    if not isinstance(latency, LatencyModel):
        raise InputError(f"latency: a {type(latency).__name__}; give what convgate.latency.fit_latency returns")
    latency.check_for(engine)
    return Timed(network, engine, latency)
