"""When units close for good: rounds over the ramp, fewer where they take long."""

from types import SimpleNamespace

import pytest

from convgate.finetuning.budget import Budget
from convgate.finetuning.closes import ClosesForGood
from convgate.finetuning.descent import Given
from convgate.finetuning.settings import Settings


@pytest.fixture
def closes(monkeypatch):
    """A descent of 1,000 seconds and four rounds, after its first; it notes how many rounds it takes to be left."""
    closing = SimpleNamespace(share=lambda: 0.9)
    given = Given(None, None, None, Budget(0.6), Settings(rounds=4, ramp=0.4), 1000.0, 0, print)
    descent = ClosesForGood(given, closing)
    descent.rounds, descent.round_seconds, descent.left = 1, 10.0, []
    monkeypatch.setattr(descent, "_round", descent.left.append)
    return descent


def test_rounds_are_spread_over_the_ramp(closes):
    closes.before_step(0.09, 90.0)
    assert closes.left == []
    closes.before_step(0.1, 100.0)
    assert closes.left == [3]


def test_rounds_that_take_long_are_fewer(closes):
    closes.round_seconds = 60.0
    closes.before_step(0.1, 100.0)
    assert closes.left == [2]  # 300 seconds of the ramp, half of them for learning


def test_measuring_takes_nothing_from_the_ramp(closes):
    closes.measuring = 500.0
    closes.before_step(0.5, 500.0)
    assert closes.left == []
    closes.before_step(0.55, 550.0)
    assert closes.left == [3]
