"""A simulation as plain data: its parts add up, and each step stands by itself."""

import json

import numpy as np
import pytest
from tests.hardware.programs import simulated


@pytest.fixture(scope="module")
def found():
    return simulated("dual", 6)


@pytest.mark.parametrize("which", ["dense", "gated"])
def test_layers_add_up_to_the_whole(found, which):
    data = json.loads(json.dumps(found.as_data()))
    whole, parts = data[which], [layer[which] for layer in data["layers"] if layer[which] is not None]
    for name in ("macs", "cycles", "mask_bits_on_chip"):
        assert sum(part[name] for part in parts) == pytest.approx(whole[name]), name
    for name in ("cycles_by_cause", "dram_words", "actions"):
        for key, number in whole[name].items():
            assert sum(part[name][key] for part in parts) == pytest.approx(number), key
    for tensor, number in whole["dram_bytes"].items():
        assert 64 * sum(part["dram_bursts"][tensor] for part in parts) == pytest.approx(number), tensor


def test_layers_are_the_steps_dense_beside_gated(found):
    layers = found.as_data()["layers"]
    assert [layer["step"] for layer in layers] == [line.name for line in found.gated.lines]
    assert all((layer["dense"] is None) == layer["head"] for layer in layers)
    number = [line.layer for line in found.gated.lines].index("layer1.0.conv2")
    own = layers[number]
    assert own["gated"]["cycles_by_cause"]["compute"] == found.gated.cycles["compute"][:, number].mean()
    assert own["dense"]["macs"] == 16 * 16 * 16 * 16 * 9


def test_cycles_and_traffic_have_a_spread_over_images(found):
    gated = found.as_data()["gated"]
    assert gated["cycles_spread"]["p95"] == np.percentile(found.gated.total, 95)
    assert gated["cycles_spread"]["mean"] == gated["cycles"]
    assert gated["dram_bytes_spread"]["mean"] == pytest.approx(sum(gated["dram_bytes"].values()))
    assert gated["dram_bytes_spread"]["p5"] < gated["dram_bytes_spread"]["p95"]
