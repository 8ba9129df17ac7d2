"""Cycles by layer: bars dense and gated, and a legend that covers none of them."""

import numpy as np
import pytest
from tests.hardware.painted import painted
from tests.hardware.programs import simulated

from convgate.hardware.layer_figure import cycles_by_layer


@pytest.fixture(scope="module")
def found():
    return simulated("dual", 4)


def test_the_legend_covers_no_bar(found, monkeypatch):
    ax = painted(monkeypatch, cycles_by_layer, found)
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1


def test_dense_and_gated_bars_are_as_long_as_their_cycles(found, monkeypatch):
    ax = painted(monkeypatch, cycles_by_layer, found)
    by_place = {}
    for bar in ax.patches:
        place = round(bar.get_y() + bar.get_height() / 2, 2)
        by_place[place] = by_place.get(place, 0) + bar.get_width()
    dense, gated = (sum(n for place, n in by_place.items() if (place % 1 > 0.5) == above) for above in (True, False))
    assert dense == pytest.approx(found.dense.total[0])
    assert gated == pytest.approx(np.mean(found.gated.total))
    assert [text.get_text() for text in ax.get_legend().get_texts()][-2:] == ["above, hatched: dense", "below: gated"]
