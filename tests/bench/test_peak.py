"""What a machine is able to, beside the times."""

import time

from convgate.bench import peak as peaks
from convgate.bench.peak import are_near, cores, peak
from convgate.engine.runtime import seconds_to_share


def test_speeds_by_precision():
    speeds = peak(1)
    assert speeds.keys() == {"float32", "bf16", "int8"}
    assert min(speeds.values()) > 0.1


def test_one_thread_shares_with_nobody():
    assert seconds_to_share(1) < 1e-6 < 1e6 * seconds_to_share(2)
    found = cores(1)
    assert 0.5 < found["scaling"] < 2
    assert found["sharing_ns"] < 1000


def test_more_threads_than_cores_take_no_longer_to_measure():
    begin = time.perf_counter()
    assert seconds_to_share(16) > 0
    assert time.perf_counter() - begin < 20


def test_threads_are_near_if_any_look_finds_them_so(monkeypatch):
    times = iter([3e-3, 9e-7, 2e-7])
    monkeypatch.setattr(peaks, "seconds_to_share", lambda threads: next(times))
    assert are_near(2, 250)
    assert list(times) == []
    monkeypatch.setattr(peaks, "seconds_to_share", lambda threads: 9e-7)
    assert not are_near(2, 250)
