"""Curves over machines and group sizes."""

import re

from convgate.hardware.curves import added_by_groups, realised_by_groups, sweep_curves
from convgate.hardware.fragmentation import Grouped

GROUPS = (Grouped(1, 100, 0.0, 50, 3.0, 1.5, 0.5), Grouped(2, 150, 0.5, 50, 2.0, 1.5, 0.75))


def row(side, moved, realised):
    return {"rows": side, "columns": side, "dram_bytes_per_cycle": moved, "realised": realised}


def test_a_sweep_is_drawn_by_size_whatever_its_order():
    rows = [row(8, 4, 0.9), row(32, 4, 0.5), row(64, 4, 0.2)]
    drawn = sweep_curves(rows)
    assert sweep_curves([rows[2], rows[0], rows[1]]) == drawn
    assert "at best 90%, with 8x8" in drawn.alt
    assert re.findall(r">(\d+x\d+)<", drawn.svg) == ["8x8", "32x32", "64x64"]


def test_groups_are_drawn_and_told():
    added, realised = added_by_groups(GROUPS), realised_by_groups(GROUPS)
    assert "1.50 times the MACs in groups of 2" in added.alt
    assert "75% of what the MACs promise in groups of 2" in realised.alt
    assert "channels of a group" in added.svg
    assert "dense over gated" in realised.svg


def test_a_single_group_size_is_drawn_too():
    assert "in groups of 1." in added_by_groups(GROUPS[:1]).alt
    assert "in groups of 1." in realised_by_groups(GROUPS[:1]).alt
