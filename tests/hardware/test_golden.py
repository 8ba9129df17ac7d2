"""Figures that others published, or that follow from what they published, with their sources."""

import numpy as np
import pytest
from tests.hardware.programs import engine_of, trace_of

from convgate.hardware import accelerator, simulate
from convgate.hardware.energy import energy_table
from convgate.hardware.timing import serial

# Source: SCALE-Sim 3, topologies/conv_nets/Resnet18.csv, whose maps are not padded. (map, kernel, in, out, stride).
RESNET18 = [
    (224, 7, 3, 64, 2),
    *[(56, 3, 64, 64, 1)] * 4,
    (56, 3, 64, 128, 2),
    (28, 3, 128, 128, 1),
    (56, 1, 64, 128, 2),
    *[(28, 3, 128, 128, 1)] * 2,
    (28, 3, 128, 256, 2),
    (14, 3, 256, 256, 1),
    (28, 1, 128, 256, 2),
    *[(14, 3, 256, 256, 1)] * 2,
    (14, 3, 256, 512, 2),
    (7, 3, 512, 512, 1),
    (14, 1, 256, 512, 2),
    *[(7, 3, 512, 512, 1)] * 2,
    (1, 1, 512, 1000, 1),
]


@pytest.mark.parametrize(
    ("dataflow", "by_16", "by_32"),
    [("ws", 7_885_563, 2_519_815), ("os", 6_359_601, 1_718_353), ("is", 8_539_239, 2_838_997)],
)
def test_resnet18_of_scalesim(dataflow, by_16, by_32):
    """Source: SCALE-Sim's formulas, by arithmetic on its own table; its output size is rounded up."""
    sides = [-(-(size - kernel + stride) // stride) for size, kernel, _, _, stride in RESNET18]
    products = [
        tuple(np.array([[n]]) for n in (side * side, kernel * kernel * inputs, outputs))
        for side, (_, kernel, inputs, outputs, _) in zip(sides, RESNET18, strict=True)
    ]
    assert sum(int((t * k * m).sum()) for t, k, m in products) == 1_471_181_568
    for size, cycles in ((16, by_16), (32, by_32)):
        assert sum(int(serial(product, size, size, dataflow).cycles[0]) for product in products) == cycles


def test_resnet20_of_dgnet():
    """Source: the convention of DGNet's code (`get_flops`); dense MACs, and those of all gate heads."""
    program = engine_of("dual", "cifar_resnet20", 32)[0].program
    found = simulate(program, trace_of(program, 2), accelerator("dgnet-ultra96"))
    assert found.dense.macs.sum() == 40_813_184
    assert (found.gated.macs[:, found.gated.heads].sum(1) == 103_232).all()


def test_energy_of_timeloop():
    """Source: timeloop-accelergy-exercises, simple_weight_stationary, ref_outputs: words of 16 bits, 4 in an access."""
    table = energy_table("timeloop-45nm")
    computes = 3 * 32 * 9 * 112**2
    assert computes == 10_838_016
    # 554,147 words are moved in whole accesses.
    actions = {"dram_read": 8 * -(-554_147 // 4), "input_buffer_read": 2 * 2_709_504, "input_buffer_write": 2 * 151_875}
    picojoules = table.energy({name: np.array([n]) for name, n in actions.items()})
    assert 1e3 * picojoules["dram_read"][0] / computes == pytest.approx(6544.64, abs=0.005)
    inputs = picojoules["input_buffer_read"][0] + picojoules["input_buffer_write"][0]
    assert inputs == pytest.approx(22_925_078, rel=1e-6)
