"""How many threads an engine uses: what was asked for, or what this process may use of the machine.

A process may use so many cores (`convgate.cores`), but no more than OMP_NUM_THREADS, which users set for all libraries
together.
"""

import os
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path

from convgate.cores import usable_cores
from convgate.errors import InputError

__all__ = ["available_cores", "choose_threads"]

_MOST = 1024


def choose_threads(asked: int | None) -> int:
    """The number asked for, by the argument or by CONVGATE_THREADS (empty: none), or else `available_cores`.

    Raises `InputError` for what is not a number of threads.
    """
    value: object = asked
    if asked is None:
        text = os.environ.get("CONVGATE_THREADS", "")
        if not text:
            return min(available_cores(), _MOST)
        value = int(text) if text.strip().isdecimal() else text
    # Any kind of whole number, NumPy's among them, but no other that could be made one.
    if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= int(value) <= _MOST:
        raise InputError(f"threads={value!r}: give a number from 1 to {_MOST}, or none for one per available core")
    return int(value)


def available_cores(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """How many cores threads of this process may use, at least 1. `root` is where the system's files are."""
    cores = usable_cores(root)
    # OpenMP's variable may be a list, of which the first number is the outermost level's.
    first = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(cores, int(first)) if first.isdecimal() and int(first) > 0 else cores
