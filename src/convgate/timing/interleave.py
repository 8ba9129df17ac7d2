"""Timing several functions in turns, so that other work on the machine slows all of them equally."""

import gc
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from convgate.errors import InputError

__all__ = ["Samples", "interleave"]

WARM = 0.060
"""Seconds of untimed calls before the timed ones: until then the threads of the one before, which wait actively for
work for a while, have gone to sleep."""
SAMPLE = 0.005
"""Seconds that a sample takes at least: short calls are timed several at once."""
_LOG = logging.getLogger(__name__)
_LEAST_ROUNDS = 5
_HELD_UP = 4
_PAUSE = 1.0
PATIENCE = 300.0
"""Seconds that are spent on waiting and on rounds that are left out, where one asks for undisturbed ones."""


@dataclass
class Samples:
    """Milliseconds per call, one number per round, the mean over up to `calls` calls; or `failed`, the reason.

    `left_out` rounds were disturbed. `impatient`: that was no longer asked in the end, and rounds count all the same.
    """

    calls: int = 1
    milliseconds: list[float] = field(default_factory=list)
    left_out: int = 0
    impatient: bool = False
    failed: str = ""

    def required(self, name: str) -> list[float]:
        """The milliseconds; raises `InputError`, with what the function is called, where it failed."""
        if self.failed:
            raise InputError(f"{name} cannot be timed: {self.failed}")
        return self.milliseconds


def interleave(
    functions: Mapping[str, Callable[[int], Any]],
    *,
    seconds: float = 30.0,
    rounds: int | None = None,
    seed: int = 0,
    disturbed: Callable[[], bool] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Samples]:
    """Time `functions` in rounds; each is called with the round's number, from 0 on.

    In a round every function has its turn: untimed calls for `WARM` seconds, then one sample. The order is drawn anew
    in every round, so that no function always comes after the same other. A function that raises is out, with the
    reason in its `Samples`; when all are, timing ends.

    Args:
        functions: by name.
        seconds: rounds begin until they have taken so long, but there are at least 5.
        rounds: exactly so many, instead, at least 1.
        seed: of the order.
        disturbed: asked before each round, which waits as long as the answer is yes, and after it: a round that ends
            so is left out, for all functions. After `PATIENCE` it is no longer asked.
        progress: is told the share that is done.

    Raises:
        InputError: fewer rounds than 1.

    """
    if rounds is not None and rounds < 1:
        raise InputError(f"interleave(rounds={rounds}): give at least 1, or None to time for {seconds} seconds")
    samples = {name: Samples() for name in functions}
    draw = random.Random(seed)
    with _no_collection():
        for name, function in functions.items():
            _attempt(samples[name], lambda function=function, own=samples[name]: _set_calls(function, own))  # type: ignore[misc]
        watch = _Watch(disturbed)
        number, passed = 0, 0.0
        while _goes_on(number, rounds, passed, seconds):
            names = [name for name in functions if not samples[name].failed]
            if not names:
                break
            watch.wait()
            begin = time.perf_counter()
            for name in draw.sample(names, len(names)):
                function, own = functions[name], samples[name]
                _attempt(own, lambda function=function, own=own, number=number: _turn(function, own, number))  # type: ignore[misc]
            took = time.perf_counter() - begin
            if not watch.counts(begin):
                for name in names:
                    _leave_out(samples[name])
                continue
            number += 1
            passed += took
            progress(number / rounds if rounds else min(1.0, passed / seconds) if seconds > 0 else 1.0)
    for own in samples.values():
        own.impatient = watch.impatient
    return samples


def _goes_on(number: int, rounds: int | None, passed: float, seconds: float) -> bool:
    return number < rounds if rounds is not None else number < _LEAST_ROUNDS or passed < seconds


def _leave_out(samples: Samples) -> None:
    """What was timed last."""
    if not samples.failed:
        samples.milliseconds.pop()
    samples.left_out += 1


class _Watch:
    """Keeps rounds to times at which nothing disturbs them, for as long as its patience lasts."""

    def __init__(self, disturbed: Callable[[], bool] | None) -> None:
        self._disturbed, self._patience = disturbed, PATIENCE

    @property
    def impatient(self) -> bool:
        return self._patience <= 0

    def wait(self) -> None:
        """Until a round can begin."""
        begin = time.perf_counter()
        while self._asks_and_is_told():
            if self._patience == PATIENCE:
                _LOG.info("waiting, for %g s at most, until nothing disturbs the timing", PATIENCE)
            time.sleep(_PAUSE)
            begin = self._spend(begin)

    def counts(self, begin: float) -> bool:
        """Whether the round that began then was undisturbed to its end."""
        if self._asks_and_is_told():
            self._spend(begin)
            return False
        return True

    def _spend(self, begin: float) -> float:
        now = time.perf_counter()
        self._patience -= now - begin
        return now

    def _asks_and_is_told(self) -> bool:
        return self._disturbed is not None and not self.impatient and self._disturbed()


def _attempt(samples: Samples, work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001 -- other people's engines raise anything; the others are still timed
        samples.failed = f"{type(error).__name__}: {error}"


def _set_calls(function: Callable[[int], Any], samples: Samples) -> None:
    """Warm up, then see how many calls a sample needs."""
    begin = time.perf_counter()
    took: list[float] = []
    while len(took) < 3 or time.perf_counter() - begin < 5 * WARM:
        start = time.perf_counter()
        function(0)
        took.append(time.perf_counter() - start)
    samples.calls = max(1, math.ceil(SAMPLE / max(min(took), 1e-6)))


def _turn(function: Callable[[int], Any], samples: Samples, number: int) -> None:
    begin = time.perf_counter()
    while True:
        function(number)
        if time.perf_counter() - begin >= WARM:
            break
    begin, done, passed = time.perf_counter(), 0, 0.0
    # A sample that is held up (spinning threads on a core that another process wants) ends early: it is an outlier
    # anyway, and the others are to have their turns.
    while done < samples.calls and passed < _HELD_UP * SAMPLE:
        function(number)
        done += 1
        passed = time.perf_counter() - begin
    samples.milliseconds.append(1e3 * passed / done)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection, which would fall into somebody's sample."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
