"""The accelerator as a program that Verilator made: it runs jobs, one step of a network each."""

import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from convgate.errors import ConvgateError, InputError
from convgate.hardware.rtl.sources import HARNESS, counters, sources
from convgate.hardware.rtl.tools import verilator

__all__ = ["Answer", "Job", "Model", "build"]

_KEPT = ["DECLFILENAME", "UNUSEDPARAM", "UNUSEDSIGNAL", "WIDTHEXPAND", "WIDTHTRUNC", "IMPORTSTAR"]
"""Warnings of Verilator that are off: names of files, what is unused, widths cut on purpose, and packages."""
_TENSORS = ("inputs", "weights", "added", "outputs")


@dataclass(frozen=True, eq=False)
class Job:
    """One step: what the host writes (what, to, data), the memory, and the region of it that is given back.

    `resting` percent of all clocks the memory neither takes nor gives anything, at random from `seed`.
    """

    writes: Sequence[tuple[int, int, int]]
    memory: np.ndarray
    result: tuple[int, int]
    resting: int = 0
    seed: int = 1
    most_clocks: int = 1 << 28


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of a job: all clocks, counters by (group, name), lines of memory touched by tensor, the result."""

    clocks: int
    counters: Mapping[tuple[str, str], int]
    lines: Mapping[str, int]
    result: np.ndarray


@dataclass(eq=False)
class Model:
    """The accelerator with its parameters, e.g. ROWS, running; use it in a `with`, or `close` it.

    Built once for each set of parameters, and kept in the user's cache. Raises `MissingDependencyError` without
    Verilator.
    """

    parameters: Mapping[str, int]
    files: Sequence[Path] = field(default_factory=sources)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the program."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def run(self, job: Job) -> Answer:
        """Run one job; what the accelerator lists and holds stays for the next."""
        if self._process is None:
            program = build(self.parameters, self.files)
            self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        pipe = self._process
        assert pipe.stdin is not None
        head = struct.pack(
            "=IIIIQII", len(job.writes), len(job.memory), job.seed, job.resting, job.most_clocks, *job.result
        )
        writes = b"".join(struct.pack("=IIQ", *write) for write in job.writes)
        pipe.stdin.write(head + writes + job.memory.tobytes())
        pipe.stdin.flush()
        (failure,) = struct.unpack("=I", self._read(4))
        numbers = struct.unpack(f"={1 + len(_TENSORS) + len(counters())}Q", self._read(8 * (5 + len(counters()))))
        result = np.frombuffer(self._read(job.result[1]), np.uint8)
        if failure:
            why = {1: f"it did not end within {job.most_clocks:,} clocks", 2: "it asked for memory that is not there"}
            raise ConvgateError(f"the accelerator failed: {why[failure]}")
        lines = dict(zip(_TENSORS, numbers[1:5], strict=True))
        return Answer(numbers[0], dict(zip(counters(), numbers[5:], strict=True)), lines, result)

    def _read(self, count: int) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        found = self._process.stdout.read(count)
        if len(found) < count:
            raise ConvgateError("the simulated accelerator ended, see its message above")
        return found


def build(parameters: Mapping[str, int], files: Sequence[Path]) -> Path:
    """The program of a set of parameters, from the cache (`$XDG_CACHE_HOME/convgate/rtl`) if it was built before."""
    command, environment = verilator()
    wanted = hashlib.sha256(repr(sorted(parameters.items())).encode())
    for path in (*files, HARNESS, Path(command[0])):
        wanted.update(path.read_bytes() if path.suffix else str(path).encode())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convgate" / "rtl"
    program = home / wanted.hexdigest()[:32]
    if program.is_file():
        return program
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who builds the same at the same time waits for it
        if program.is_file():
            return program
        call = [
            *command, "--cc", "--exe", "--build", "--assert", "-O3", "-CFLAGS", "-O1 -std=c++20", "-MAKEFLAGS", "-s",
            # One file: of several, the makefile in the Python package leaves out "-include" for a precompiled header.
            "--output-split", "0",
            "-Wall", *(f"-Wno-{name}" for name in _KEPT), "--top-module", "cg_top", "-Mdir", folder, "-o", "harness",
            *(f"-G{name}={number}" for name, number in parameters.items()), str(HARNESS), *map(str, files),
        ]  # fmt: skip
        done = subprocess.run(call, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"Verilator could not build the accelerator:\n{(done.stderr or done.stdout)[-2000:]}")
        temporary = home / f".{program.name}.{os.getpid()}"
        shutil.copy2(Path(folder) / "harness", temporary)
        os.replace(temporary, program)
    return program
