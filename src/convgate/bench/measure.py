"""The comparison: build every engine, check its outputs, time all of them in turns."""

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from convgate.bench.built import Built
from convgate.bench.competitors import Competitor
from convgate.bench.peak import are_near, cores, peak
from convgate.bench.result import Result, Row
from convgate.bench.subject import Subject
from convgate.errors import InputError
from convgate.extras import missing
from convgate.timing.interleave import Samples, interleave
from convgate.timing.machine import machine

__all__ = ["measure"]

_LOG = logging.getLogger(__name__)

_TOLERANCE = 1e-3
# Relative; float32 engines come within 1e-5 of each other, and one that is far off computes something else.


def measure(
    subject: Subject,
    competitors: Sequence[Competitor],
    *,
    threads: int,
    seconds: float = 30.0,
    rounds: int | None = None,
    near: float | None = None,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Result:
    """Time a subject in each of the competitors.

    Competitors that are not installed, fail, or compute something else are rows with the reason. PyTorch's number of
    threads is `threads` meanwhile.

    Args:
        subject: from `prepare`.
        competitors: from `choose`.
        threads: for each engine.
        seconds: how long to time, all engines together; building and checking come on top.
        rounds: how many samples of each, instead.
        near: nanoseconds, see `peak.cores`. A virtual machine's cores change places, and those that share no cache are
            another machine: rounds wait until the threads take no longer to share work out, and do not count where
            that is over in the end. For some minutes; then they count all the same. None: all rounds count.
        seed: of the order of the turns.
        progress: is told the share of the timing that is done.

    Raises:
        InputError: a model whose output is not a tensor, numbers that are not positive, or nothing to time.

    """
    if threads < 1 or (rounds is not None and rounds < 1) or seconds <= 0 or (near is not None and near <= 0):
        asked = f"threads {threads}, rounds {rounds}, seconds {seconds}, near {near}"
        raise InputError(f"{asked}: all of them must be positive")
    competitors = [competitor for competitor in competitors if competitor.applies(subject)]
    if not competitors:
        raise InputError(
            f"there is no pruned.cgm beside {subject.model}; convgate finetune writes one where gates decide the same "
            "for every image"
        )
    with _torch_threads(threads), _said_aside():
        gated = _outputs(subject, gated=True)
        expected = {"dense": _outputs(subject, gated=False), "gated": gated, "pruned": gated}
        rows, calls = {}, {}
        for competitor in competitors:
            _LOG.info("building %s", competitor.label)
            row = Row(competitor.name, competitor.label, competitor.kind, competitor.precision, competitor.reference)
            try:
                built = competitor.build(subject, threads)
                row = _checked(row, built, subject, expected[competitor.kind])
                if not row.failed and subject.labelled is not None:
                    row = replace(row, accuracy=subject.labelled.accuracy(built.call, len(subject.inputs[0])))
            except ImportError as error:
                row = replace(row, failed=_not_installed(error))
            except Exception as error:  # noqa: BLE001 -- other people's engines raise anything; the row tells
                row = replace(row, failed=_one_line(f"{type(error).__name__}: {error}"))
            rows[competitor.name] = row
            if not row.failed:
                calls[competitor.name] = _on_inputs(built, subject)
        _LOG.info("timing %d engines", len(calls))
        before = cores(threads)
        far = None if near is None else lambda: not are_near(threads, near)
        samples = interleave(calls, seconds=seconds, rounds=rounds, seed=seed, disturbed=far, progress=progress)
    for name, own in samples.items():
        timed = {"failed": _one_line(own.failed)} if own.failed else rows[name].timed(own.milliseconds)
        rows[name] = replace(rows[name], calls=own.calls, **timed)
    # The kernels' own count, where they ran; the ledger's otherwise.
    counted = [row.macs for row in rows.values() if row.kind == "gated" and row.macs is not None]
    return Result(
        tuple(rows.values()),
        subject.dense_macs,
        next(iter(counted), subject.gated_macs),
        machine(threads)
        | {"peak_gmacs": peak(threads), "cores_before": before, "cores_after": cores(threads)}
        | ({} if near is None else _left_out(near, samples)),
    )


def _left_out(near: float, samples: Mapping[str, Samples]) -> dict[str, Any]:
    """How many rounds were left out, of all engines that were left then, and whether some count all the same."""
    left_out = max((own.left_out for own in samples.values()), default=0)
    return {"near_ns": near, "rounds_left_out": left_out, "impatient": any(own.impatient for own in samples.values())}


def _on_inputs(built: Built, subject: Subject) -> Callable[[int], Any]:
    """All engines get the same input in a round, and every input has its turn."""
    inputs = subject.inputs
    return lambda number: built.call(inputs[number % len(inputs)])


@torch.no_grad()
def _outputs(subject: Subject, *, gated: bool) -> list[list[np.ndarray]]:
    """PyTorch's outputs for the inputs, each a list of arrays."""
    outputs = [(subject.network if gated else subject.dense)(torch.from_numpy(x)) for x in subject.inputs]
    leaves = [pytree.tree_leaves(output) for output in outputs]
    if not all(own and all(isinstance(leaf, torch.Tensor) for leaf in own) for own in leaves):
        raise InputError(f"{subject.model} returns a {type(outputs[0]).__name__}; only tensors can be compared")
    return [[leaf.numpy() for leaf in own] for own in leaves]


def _checked(row: Row, built: Built, subject: Subject, expected: list[list[np.ndarray]]) -> Row:
    """The row with how far its outputs are from PyTorch's; failed, if too far."""
    note = built.note
    if row.kind == "gated" and built.engine is not None:
        expected, flipped = _with_decisions_of(built, subject)
        # A logit next to zero may round to either side; the network is then asked what it makes of those decisions.
        note += f"; {flipped} decisions differ from PyTorch's, compared given these" if flipped else ""
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for x, wanted in zip(subject.inputs, expected, strict=True):
        actual = [np.array(leaf) for leaf in pytree.tree_leaves(built.call(x))]
        pairs += zip(actual, wanted, strict=True)
    difference = float(np.max([_difference(actual, wanted) for actual, wanted in pairs]))  # NaN if any is
    macs = float(np.mean([built.engine.run(x).macs for x in subject.inputs])) if built.engine else None
    row = replace(row, difference=difference, note=note, macs=macs)
    if not difference <= _TOLERANCE and row.precision == "float32":
        return replace(row, failed=f"its outputs differ from PyTorch's by {difference:.2g} of the largest")
    return row


def _difference(actual: np.ndarray, wanted: np.ndarray) -> float:
    scale = max(float(np.abs(wanted).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(actual.reshape(wanted.shape) - wanted).max()) / scale


@torch.no_grad()
def _with_decisions_of(built: Built, subject: Subject) -> tuple[list[list[np.ndarray]], int]:
    """(the masked network's outputs given the engine's decisions, how many of them it would take otherwise)."""
    outputs, flipped = [], 0
    for x in subject.inputs:
        images = torch.from_numpy(x)
        _, own = subject.network.decide(images)
        run = built.engine.run(x)
        masks = {name: torch.from_numpy(run.decisions[name].mask).float() for name in own}
        flipped += sum(int((masks[name] != decision.mask).sum()) for name, decision in own.items())
        replayed = subject.network.replay(images, run.decisions)
        outputs.append([leaf.numpy() for leaf in pytree.tree_leaves(replayed)])
    return outputs, flipped


@contextmanager
def _said_aside() -> Iterator[None]:
    """What libraries print, in Python or not, goes to standard error: --json has the other."""
    _flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _flush()
        os.dup2(kept, 1)
        os.close(kept)


def _flush() -> None:
    """Write what Python and C keep for standard output, which C does if that is a file or a pipe."""
    sys.stdout.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


def _not_installed(error: ImportError) -> str:
    known = missing(error) if isinstance(error, ModuleNotFoundError) else None
    return _one_line(f"not installed: {known or error}")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:297]}..."


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
