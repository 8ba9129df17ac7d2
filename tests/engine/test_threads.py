"""Default threads: the cores there are, OMP_NUM_THREADS; and what is asked for comes first."""

import os

import numpy as np
import pytest

from convgate.engine.threads import available_cores, choose_threads
from convgate.errors import InputError


@pytest.mark.parametrize(("value", "limit"), [("1", 1), ("1,4", 1), ("", None), ("many", None), ("0", None)])
def test_openmps_variable(value, limit, tmp_path):
    cores = len(os.sched_getaffinity(0))
    assert available_cores({"OMP_NUM_THREADS": value}, tmp_path) == min(cores, limit or cores)


def test_what_is_asked_for_comes_first(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert choose_threads(None) == 1
    monkeypatch.setenv("CONVGATE_THREADS", "3")
    assert choose_threads(None) == 3
    assert choose_threads(5) == 5
    monkeypatch.setenv("CONVGATE_THREADS", "some")
    with pytest.raises(InputError, match="threads='some'"):
        choose_threads(None)
    monkeypatch.setenv("CONVGATE_THREADS", "")  # as with CONVGATE_ISA
    assert choose_threads(None) == 1


@pytest.mark.parametrize("asked", [2.7, 2.0, True, False, "2", 0, -1, 1 << 70, [2]])
def test_what_is_no_number_of_threads_is_refused(asked):
    with pytest.raises(InputError, match="give a number from 1 to 1024"):
        choose_threads(asked)


def test_any_whole_number_is_one():
    assert choose_threads(np.int64(3)) == 3
