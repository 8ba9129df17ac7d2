"""Latency of both networks on the engine."""

import pytest
import torch

import convgate
from convgate.bench import latency as module
from convgate.bench.latency import latency
from convgate.errors import InputError
from convgate.models import create


def test_both_networks_are_timed_on_the_same_images() -> None:
    images = torch.randn(3, 3, 16, 16)
    model = create("cifar_resnet8", width=4).eval()
    network = convgate.gate(model, convgate.DualGating(), example=images).eval()
    measured = latency(model, network, images, seconds=0.1)
    for row in (measured.dense, measured.gated):
        assert 0 < row.p20_ms <= row.median_ms <= row.p80_ms
        assert row.n >= 5
    assert measured.speedup == measured.dense.median_ms / measured.gated.median_ms
    assert measured.isa in convgate.engine.instruction_sets()


def test_an_engine_that_fails_is_told_of_with_the_reason(monkeypatch) -> None:
    images = torch.randn(2, 3, 16, 16)
    model = create("cifar_resnet8", width=4).eval()
    network = convgate.gate(model, convgate.DualGating(), example=images).eval()

    def breaking(engine, inputs):
        def run(number):
            raise RuntimeError("out of beads")

        return run if engine.program.gates else lambda number: engine(inputs[0])

    monkeypatch.setattr(module, "_turns", breaking)
    with pytest.raises(InputError, match="the gated network cannot be timed: RuntimeError: out of beads"):
        latency(model, network, images, seconds=0.1)
    with pytest.raises(InputError, match="no images"):
        latency(model, network, images[:0])
