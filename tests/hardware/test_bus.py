from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from convgate.hardware import accelerator
from convgate.hardware.bus import Work, stalls

MACHINE = accelerator("dgnet-ultra96", dram_bytes_per_cycle=8, dram_latency_cycles=5)


def work(weights=0, maps=0, cycles=0, stores=0, weights_after=-1, maps_after=-1):
    amounts = (np.array([n], np.int64) for n in (weights, maps, cycles, stores))
    return Work(*amounts, weights_after, maps_after)


def waits(*works, machine=MACHINE):
    return [int(wait[0]) for wait in stalls(works, machine, 1)]


def test_the_first_load_is_waited_for_and_the_second_is_hidden():
    assert waits(work(maps=80, cycles=100), work(maps=80, cycles=100)) == [5 + 10, 0]
    # The second load begins when the first ends, and takes longer than the work in between.
    assert waits(work(maps=80, cycles=4), work(maps=80, cycles=100)) == [15, 10 - 4]


def test_what_the_step_before_writes_is_waited_for():
    first, second = work(maps=8, cycles=20, stores=80), work(maps=80, cycles=20, maps_after=0)
    # 6 cycles of loading; the store after 20 cycles of work takes 5 + 10; then the bus is free and loads for 10.
    assert waits(first, second) == [6, 15 + 10]


def test_weights_that_a_decision_chooses_are_loaded_after_it():
    first, second = work(maps=8, cycles=20), work(weights=80, cycles=20, weights_after=0)
    assert waits(first, second) == [6, 5 + 10]
    assert waits(first, work(weights=80, cycles=20)) == [6, 0]


def test_the_last_store_is_waited_for():
    assert waits(work(cycles=20, stores=80)) == [5 + 10]


def test_partial_words_take_a_whole_cycle():
    assert waits(work(maps=1)) == waits(work(maps=8)) == [6]


_AMOUNT = st.integers(0, 60)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(_AMOUNT, _AMOUNT, _AMOUNT, _AMOUNT), min_size=1, max_size=8), st.integers(1, 16))
def test_waiting_is_bounded_by_what_is_moved(amounts, moved):
    machine = replace(MACHINE, dram_bytes_per_cycle=moved)
    works = [work(*each) for each in amounts]
    waited = waits(*works, machine=machine)
    assert min(waited) >= 0
    transfers = [amount for weights, maps, _, stores in amounts for amount in (weights, maps, stores)]
    busy = sum(-(-amount // moved) for amount in transfers)
    total = sum(waited) + sum(cycles for _, _, cycles, _ in amounts)
    assert total >= busy  # the bus cannot be faster
    assert sum(waited) <= busy + 5 * len(transfers)  # nor need anybody wait longer than for all of it


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(_AMOUNT, _AMOUNT, _AMOUNT, _AMOUNT), min_size=1, max_size=6))
def test_images_do_not_wait_for_each_other(amounts):
    other = [(b, d, a, c) for a, b, c, d in amounts]
    both = [Work(*(np.array(pair) for pair in zip(a, b, strict=True))) for a, b in zip(amounts, other, strict=True)]
    found = stalls(both, MACHINE, 2)
    for image, each in enumerate((amounts, other)):
        assert [int(wait[image]) for wait in found] == waits(*(work(*one) for one in each))
