"""Figures of the whole network: their words, and where things lie."""

import pytest
from tests.hardware.painted import painted
from tests.hardware.programs import simulated

from convgate.hardware.figures import cycles_by_cause, speedup_by_macs, traffic_by_tensor


@pytest.fixture(scope="module")
def found():
    return simulated("channel", 20)


def test_axes_fit_the_dots_and_show_the_line(found, monkeypatch):
    ax = painted(monkeypatch, speedup_by_macs, found)
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    cut, speedup = found.macs_cut, found.speedup
    assert low < cut.min() < cut.max() < high
    assert high - low < 1.5 * max(cut.max() - cut.min(), 0.1)
    assert bottom < min(speedup.min(), low)
    assert top > max(speedup.max(), high)
    assert ax.lines[0].get_xdata()[0] == ax.lines[0].get_ydata()[0]


def test_traffic_has_the_words_of_the_text(found):
    drawn = traffic_by_tensor(found)
    for name in ("maps read", "weights", "maps that are added", "maps written"):
        assert f">{name}<" in drawn.svg
    assert "inputs" not in drawn.svg


def test_causes_are_told(found):
    assert f"compute {found.dense.cycles['compute'].sum():,} dense" in cycles_by_cause(found).alt
