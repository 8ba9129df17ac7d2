"""Turns: everyone gets as many, short calls are bundled, and one that fails does not stop the others."""

import gc
import itertools
import time

import pytest

from convgate.errors import InputError
from convgate.timing import interleave as timing
from convgate.timing.interleave import interleave


def test_everyone_has_a_sample_in_every_round_on_that_rounds_input(monkeypatch):
    monkeypatch.setattr(timing, "WARM", 1e-4)
    monkeypatch.setattr(timing, "SAMPLE", 1e-4)
    seen = {"a": [], "b": []}
    shares = []
    functions = {name: seen[name].append for name in seen}
    samples = interleave(functions, rounds=4, progress=shares.append)
    assert [len(own.milliseconds) for own in samples.values()] == [4, 4]
    assert all(set(numbers) == {0, 1, 2, 3} for numbers in seen.values())
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_a_sample_is_the_time_of_one_call_however_many_it_bundles():
    samples = interleave({"short": lambda n: time.sleep(1e-3), "long": lambda n: time.sleep(8e-3)}, rounds=3)
    assert samples["short"].calls > 1
    assert samples["long"].calls == 1
    assert all(ms >= 1 for ms in samples["short"].milliseconds)
    assert all(ms >= 8 for ms in samples["long"].milliseconds)


def test_the_order_is_drawn_anew_and_repeats_with_the_seed(monkeypatch):
    monkeypatch.setattr(timing, "_set_calls", lambda function, samples: None)
    monkeypatch.setattr(timing, "WARM", 0.0)

    def order(seed):
        turns = []
        interleave({name: lambda n, name=name: turns.append((n, name)) for name in "abcd"}, rounds=6, seed=seed)
        return list(dict.fromkeys(turns))

    first = order(0)
    assert order(0) == first
    rounds = {tuple(name for n, name in first if n == number) for number in range(6)}
    assert len(rounds) > 1
    assert all(sorted(names) == list("abcd") for names in rounds)


def test_one_that_fails_is_out_with_the_reason_and_the_others_go_on():
    def breaks(number):
        if number == 1:
            raise RuntimeError("out of beads")

    samples = interleave({"breaks": breaks, "works": lambda n: None}, rounds=3)
    assert samples["breaks"].failed == "RuntimeError: out of beads"
    assert len(samples["works"].milliseconds) == 3
    assert samples["works"].failed == ""
    assert gc.isenabled()


def test_a_short_time_still_gives_some_rounds():
    samples = interleave({"a": lambda n: None}, seconds=1e-6)
    assert len(samples["a"].milliseconds) == 5


def test_when_all_have_failed_timing_ends():
    def breaks(number):
        raise RuntimeError("out of beads")

    begin = time.perf_counter()
    samples = interleave({"a": breaks, "b": breaks}, seconds=20)
    assert interleave({}, seconds=20) == {}
    assert time.perf_counter() - begin < 10
    with pytest.raises(InputError, match="a cannot be timed: RuntimeError: out of beads"):
        samples["a"].required("a")


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_rounds_are_refused(rounds):
    with pytest.raises(InputError, match="at least 1"):
        interleave({"a": lambda n: None}, rounds=rounds, seconds=20)


def test_no_time_gives_the_least_rounds():
    shares = []
    samples = interleave({"a": lambda n: None}, seconds=0, progress=shares.append)
    assert len(samples["a"].required("a")) == 5
    assert shares[-1] == 1


@pytest.fixture
def numbered(monkeypatch):
    """Turns whose milliseconds are the numbers of the turns, and no time that passes."""
    monkeypatch.setattr(timing, "WARM", 0.0)
    monkeypatch.setattr(timing, "_PAUSE", 0.0)
    turns = itertools.count()
    monkeypatch.setattr(timing, "_turn", lambda function, samples, number: samples.milliseconds.append(next(turns)))


def test_a_round_waits_while_it_would_be_disturbed_and_is_left_out_if_it_was_in_the_end(numbered):
    answers = [True, True, False, False, False, True, True, False, False]  # round 1; left out; waits, round 2
    asked = iter(answers)
    samples = interleave({"a": abs}, rounds=2, disturbed=lambda: next(asked))["a"]
    assert samples.milliseconds == [0, 2]
    assert (samples.left_out, samples.impatient) == (1, False)
    assert list(asked) == []


def test_patience_ends_and_all_rounds_count_from_then_on(numbered, monkeypatch):
    monkeypatch.setattr(timing, "PATIENCE", 1e-9)
    samples = interleave({"a": abs}, rounds=3, disturbed=lambda: True)["a"]
    assert samples.milliseconds == [0, 1, 2]
    assert (samples.left_out, samples.impatient) == (0, True)


def test_one_that_fails_in_a_round_that_is_left_out(monkeypatch):
    def turn(function, samples, number):
        function(number)
        samples.milliseconds.append(1.0)

    once = iter([0])
    monkeypatch.setattr(timing, "_turn", turn)
    monkeypatch.setattr(timing, "_set_calls", lambda function, samples: None)
    asked = iter([False, False, False, True, False, False, False, False])
    samples = interleave({"breaks": lambda number: next(once), "works": abs}, rounds=3, disturbed=lambda: next(asked))
    assert [len(own.milliseconds) for own in samples.values()] == [1, 3]
    assert samples["breaks"].failed.startswith("StopIteration")
    assert [own.left_out for own in samples.values()] == [1, 1]
