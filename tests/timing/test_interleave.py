"""Turns: everyone gets as many, short calls are bundled, and one that fails does not stop the others."""

import gc
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


def test_rounds_that_are_disturbed_before_or_after_are_left_out_for_all(monkeypatch):
    monkeypatch.setattr(timing, "WARM", 0.0)
    monkeypatch.setattr(timing, "_turn", lambda function, samples, number: samples.milliseconds.append(number))
    answers = iter([False, False, True, False, False, True, False, False, False])  # before the first, then after each
    samples = interleave({"a": abs, "b": abs}, rounds=3, disturbed=lambda: next(answers))
    for own in samples.values():
        assert own.milliseconds == [0, 3, 6]
        assert (own.disturbed, own.all_count) == (4, False)


def test_where_hardly_any_round_is_undisturbed_all_count_and_timing_ends(monkeypatch):
    monkeypatch.setattr(timing, "WARM", 0.0)
    monkeypatch.setattr(timing, "_turn", lambda function, samples, number: samples.milliseconds.append(number))
    samples = interleave({"a": abs}, rounds=3, disturbed=lambda: True)["a"]
    assert samples.milliseconds == list(range(12))
    assert (samples.disturbed, samples.all_count) == (12, True)
    samples = interleave({"a": abs}, seconds=1e-6, disturbed=lambda: True)["a"]
    assert samples.milliseconds == list(range(20))


def test_one_that_fails_keeps_the_samples_of_rounds_that_count(monkeypatch):
    def breaks(number):
        if number == 2:
            raise RuntimeError("out of beads")

    monkeypatch.setattr(timing, "WARM", 0.0)
    answers = iter([True, *[False] * 9])
    samples = interleave({"breaks": breaks, "works": abs}, rounds=3, disturbed=lambda: next(answers))
    assert [len(own.milliseconds) for own in samples.values()] == [1, 3]
    assert [own.disturbed for own in samples.values()] == [1, 1]
