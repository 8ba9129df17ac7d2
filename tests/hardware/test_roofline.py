"""The roofline: arrows from dense to gated, and what has none."""

import numpy as np
from tests.hardware.painted import painted
from tests.hardware.programs import engine_of, masks_of, trace_of

from convgate.hardware import Trace, accelerator, simulate
from convgate.hardware.roofline import roofline

MACHINE = accelerator("dgnet-ultra96")


def test_every_layer_that_is_open_has_an_arrow(monkeypatch):
    program = engine_of("dual")[0].program
    found = simulate(program, trace_of(program, 4), MACHINE)
    layers = [line for line in found.dense.lines if found.dense.macs[0, found.dense.lines.index(line)]]
    ax = painted(monkeypatch, roofline, found)
    arrows = [text for text in ax.texts if text.arrow_patch is not None]
    assert len(arrows) == len(layers)
    first, number = arrows[0], 0
    macs = found.dense.macs[0, number]
    assert np.isclose(first.xyann[1], macs / found.dense.by_line[0, number])
    assert f"of {len(layers)} of {len(layers)} layers" in roofline(found).alt
    assert "Left out" not in roofline(found).alt


def test_layers_that_are_closed_for_all_images_are_told():
    program = engine_of("dual")[0].program
    found = simulate(program, Trace.of(program, masks_of(program, 2, 0.0)), MACHINE)
    closed = sum(
        not found.gated.macs[:, number].any() for number, line in enumerate(found.gated.lines) if line.kind == "3x3"
    )
    assert closed > 0
    assert f"Without an arrow: {closed} that are closed for all images." in roofline(found).alt


def test_layers_that_move_nothing_are_told(monkeypatch):
    program = engine_of("dual")[0].program
    found = simulate(program, trace_of(program, 2), MACHINE)
    for report in (found.dense, found.gated):
        number = [line.layer for line in report.lines].index("layer1.0.conv2")
        for bursts in report.bursts.values():
            bursts[:, number] = 0
    assert "Left out: 1 that move nothing from or to memory." in roofline(found).alt
