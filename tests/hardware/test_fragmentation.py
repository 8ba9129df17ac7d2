"""Recorded decisions in larger groups: what grouping adds, and what the machine then makes of it."""

import numpy as np
import pytest
from tests.hardware.programs import engine_of, masks_of

from convgate.engine.program import Gate, GateKind
from convgate.hardware import Trace, accelerator, simulate
from convgate.hardware.fragmentation import fragmentation, regrouped

MACHINE = accelerator("dgnet-ultra96")


def gate(units, group):
    return Gate("g", GateKind.CHANNEL, (units, 1, 1), group=group)


@pytest.mark.parametrize(
    ("own", "group", "expected"),
    [
        (1, 1, [1, 0, 0, 0, 0, 1, 0, 0]),
        (1, 2, [1, 1, 0, 0, 1, 1, 0, 0]),
        (1, 4, [1, 1, 1, 1, 1, 1, 1, 1]),
        (1, 6, [1, 1, 1, 1, 1, 1, 0, 0]),  # the last group is smaller
        (2, 2, [1, 0, 0, 0, 0, 1, 0, 0]),
        (2, 4, [1, 1, 0, 0, 1, 1, 0, 0]),
        (4, 2, [1, 0, 0, 0, 0, 1, 0, 0]),  # its own groups are larger
    ],
)
def test_a_group_is_open_where_any_of_its_channels_is(own, group, expected):
    mask = np.array([[1, 0, 0, 0, 0, 1, 0, 0]], np.uint8).reshape(1, 8, 1, 1)
    assert regrouped(mask, gate(8, own), group).reshape(-1).tolist() == expected


def test_positions_stay_apart():
    mask = np.zeros((1, 4, 1, 2), np.uint8)
    mask[0, 0, 0, 0] = mask[0, 3, 0, 1] = 1
    found = regrouped(mask, Gate("g", GateKind.ACTIVATION, (4, 1, 2)), 2)
    assert found[0, :, 0].tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


def spread_out(program, images=3):
    """Every fourth channel open, at all positions."""
    masks = masks_of(program, images, 0.0)
    for mask in masks.values():
        mask[:, ::4] = 1
    return Trace.of(program, masks)


def test_macs_that_grouping_adds():
    program = engine_of("channel")[0].program
    closed = simulate(program, Trace.of(program, masks_of(program, 1, 0.0)), MACHINE).gated.macs.sum()
    rows = fragmentation(program, spread_out(program), MACHINE)
    assert [row.group for row in rows] == [1, 2, 4, 8, 16]
    one = rows[0].macs - closed  # what completing every fourth channel takes
    assert [row.macs for row in rows] == [closed + n * one for n in (1, 2, 4, 4, 4)]
    assert rows[0].added == 0
    assert rows[2].added == pytest.approx(3 * one / (closed + one))
    # The array completes 16 channels at once, whichever of them are open: the same cycles, promised by fewer MACs.
    assert len({row.cycles for row in rows}) == 1
    assert rows[0].realised < rows[1].realised < rows[2].realised


def test_recorded_groups_are_what_the_simulation_found():
    program = engine_of("dual")[0].program
    trace = Trace.of(program, masks_of(program, 4))
    found, first = simulate(program, trace, MACHINE), fragmentation(program, trace, MACHINE)[0]
    assert first.macs == found.gated.macs.sum(1).mean()
    assert (first.speedup, first.realised) == (found.speedup.mean(), found.realised.mean())


@pytest.mark.parametrize(
    ("method", "columns", "groups"),
    [("dual", 4, [1, 2, 4]), ("dual", 6, [1, 2, 4, 6]), ("dual_by_groups", 16, [8, 16]), ("channel", 256, 7 * [0])],
)
def test_groups_reach_from_the_smallest_recorded_to_the_columns_or_channels(method, columns, groups):
    program = engine_of(method)[0].program
    machine = accelerator("dgnet-ultra96", columns=columns)
    found = [row.group for row in fragmentation(program, Trace.of(program, masks_of(program, 1)), machine)]
    assert found == ([1, 2, 4, 8, 16, 32, 64] if columns == 256 else groups)


def test_the_first_images_are_enough():
    program = engine_of("dual")[0].program
    trace = Trace.of(program, masks_of(program, 5))
    assert fragmentation(program, trace, MACHINE, images=2) == fragmentation(program, trace.part(0, 2), MACHINE)


def test_networks_without_decisions_on_channels_have_none():
    program = engine_of("layer_skipping")[0].program
    assert fragmentation(program, Trace.of(program, masks_of(program, 2)), MACHINE) == ()
