"""An engine: a program made ready to run on this machine's cores."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from convgate.engine.check import check
from convgate.engine.describe import describe
from convgate.engine.explain import Explanation, explain
from convgate.engine.file import load_program, save_program
from convgate.engine.inputs import checked_inputs
from convgate.engine.outputs import arrange, as_outputs
from convgate.engine.precision import Precision, in_precision, precision_of
from convgate.engine.program import GateKind, Program
from convgate.engine.runtime import Executor, NativeNetwork, Results, choose_isa, instruction_sets
from convgate.engine.sizes import at
from convgate.engine.threads import choose_threads
from convgate.errors import InputError
from convgate.preparation import Preparation

__all__ = ["KEPT_SIZES", "Engine", "GateDecision", "Run", "load"]

_engines: WeakSet["Engine"] = WeakSet()
"""Those of this process."""


def _after_fork() -> None:
    # Threads that held an engine's lock are not in the child.
    for engine in _engines:
        engine._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

KEPT_SIZES = 4
"""Sizes of images for which an engine stays ready."""


@dataclass(frozen=True, eq=False)
class GateDecision:
    """What one gate decided for a batch: `mask` uint8 [N, units...] of 0 and 1, `logits` float32 of the same shape.

    A spatial gate's shape is [N, 1, rows, columns], a channel gate's [N, groups, 1, 1], an activation gate's
    [N, groups, H, W]. The logits of a gate whose mask was given are None.
    """

    kind: GateKind
    mask: np.ndarray
    logits: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Run:
    """A call's results with what led to them.

    `outputs` are all arrays that the network returns, in order; where it returns a dict, they can be looked up by key,
    too. `returned` is what a call returns: the same in the network's own tuples and dicts. `macs` int64 [N] are the
    multiply-accumulates executed for each sample, gates included: counted by the kernels that ran, and for what PyTorch
    computed by the ledger; `by_layer` has them per layer of the ledger. `milliseconds` float64 [N] is how long the
    operations took for each sample in this call; of a batch, samples are computed side by side, one a thread.
    """

    outputs: tuple[Any, ...]
    decisions: Mapping[str, GateDecision]
    macs: np.ndarray
    by_layer: Mapping[str, np.ndarray]
    milliseconds: np.ndarray
    returned: Any


class Engine:
    """Runs a program. Made by `convgate.compile` or `convgate.engine.load`.

    It takes images of the size that it was compiled for, and of any other that the network takes, unless something in
    the network fixes the size (`Engine.program.fixed`); it stays ready for the four sizes used last.

    Calls from several Python threads are safe; those of one engine wait for each other, those of several run side by
    side. The interpreter lock is released while an engine runs.

    Args:
        program: what to compute.
        threads: how many cores to use; by default CONVGATE_THREADS, or all that this process may use (its affinity,
            the quota of its container, OMP_NUM_THREADS).
        isa: which kernels ("avx512", "avx2", "portable", "scalar"; in bf16 "avx512bf16", in int8 "avx512vnni" and
            "avxvnni", too); by default CONVGATE_ISA, or the best.
        precision: "bf16" runs a float32 program in bfloat16: maps and weights are stored so, sums are float32, and so
            are gates' heads, decisions and outputs. By default as the program says.
        executor: what makes a program ready to run, from the program, a number of threads and an instruction set;
            another than the native runtime where PyTorch computes a part (see `convgate.compile`). By default the
            native runtime; `convgate.engine.integer.IntegerNetwork` is the reference for programs of integers.
        settle: finds out whether a program is for any size; called once, when that first matters.

    Raises:
        ProgramError: the program does not hold together.
        InputError: no such instruction set on this machine, or not a number of threads.

    """

    def __init__(
        self,
        program: Program,
        *,
        threads: int | None = None,
        isa: str | None = None,
        precision: str | None = None,
        executor: Callable[[Program, int, str], Executor] | None = None,
        settle: Callable[[Program], Program] | None = None,
    ) -> None:
        program = in_precision(program, precision)
        check(program)
        self.program = program
        # A program of which nothing can be stored in bfloat16 is float32's; kernels are asked for by what was wanted.
        self.isa = choose_isa(isa, precision or self.precision)
        self.threads = choose_threads(threads)
        self._are_vectors = [name in program.vectors for name in (*program.outputs, *program.foreign)]
        self._make = executor or NativeNetwork
        self._prepared: OrderedDict[tuple[int, int], tuple[Program, Executor]] = OrderedDict()
        self._lock, self._settle = threading.RLock(), settle
        self._executor = self.executor_at(*_size(program))[1]
        _engines.add(self)

    def __repr__(self) -> str:
        count = len(self.program.operations)
        return f"Engine({count} operations, {len(self.program.gates)} gates, {self.isa}, {self.threads} thread(s))"

    def __call__(self, *images: npt.ArrayLike) -> Any:
        """What the network returns for `images`, float32 [N, C, H, W]: an array, or several in a tuple or dict.

        Raises `InputError` for arrays of another shape or type, and for values that are not finite.
        """
        inputs = checked_inputs(self.program, images)
        _, executor = self.executor_at(*inputs[0].shape[2:])
        return arrange(self._outputs(executor.run(inputs, {})), self.program.returns)

    def run(self, *images: npt.ArrayLike, given: Mapping[str, npt.ArrayLike] | None = None) -> Run:
        """The outputs with the decisions and the executed MACs; gates in `given` (masks of 0 and 1) do not decide.

        Raises `InputError` as a call does, and for masks of another shape or of unknown gates.
        """
        inputs = checked_inputs(self.program, images)
        program, executor = self.executor_at(*inputs[0].shape[2:])
        masks = self._masks(given or {}, {gate.name: (len(inputs[0]), *gate.shape) for gate in program.gates})
        results = executor.run(inputs, masks, details=True)
        decisions = {}
        for gate in self.program.gates:
            logits = None if gate.name in masks else results.logits.get(gate.name)
            decisions[gate.name] = GateDecision(gate.kind, results.masks[gate.name], logits)
        assert results.macs is not None
        assert results.total is not None
        by_layer = {layer: results.macs[:, number] for number, layer in enumerate(self.program.layers)}
        returned = arrange(self._outputs(results), self.program.returns)
        macs, milliseconds = results.macs.sum(1), 1e3 * results.total
        return Run(as_outputs(returned), decisions, macs, by_layer, milliseconds, returned)

    @property
    def preparation(self) -> Preparation | None:
        """How images are prepared for this network, and what its classes are called; None where it does not say.

        >>> images = engine.preparation.read(["cat.jpg"])  # doctest: +SKIP
        >>> engine.preparation.top(engine(images)[0], 3)  # doctest: +SKIP
        [('tabby', 0.71), ('tiger cat', 0.2), ('Egyptian cat', 0.05)]
        """
        return self.program.preparation

    def profile(self, *images: npt.ArrayLike) -> dict[str, float]:
        """Milliseconds per sample that each operation took, by what it writes, in order of execution."""
        inputs = checked_inputs(self.program, images)
        _, executor = self.executor_at(*inputs[0].shape[2:])
        seconds = executor.run(inputs, {}, times=True).seconds
        assert seconds is not None
        return dict(zip(executor.labels, 1e3 * seconds.mean(0), strict=True))

    def describe(self) -> str:
        """The program as a table: what each operation is, reads and writes, its gates and its MACs."""
        return describe(self.program)

    def explain(self) -> Explanation:
        """Which share of the MACs runs natively, and what PyTorch computes and why. It can be printed.

        >>> engine.explain().native_share  # doctest: +SKIP
        0.97
        """
        return explain(self.program, self._executor.explain())

    def save(self, path: str | PathLike[str]) -> None:
        """Write the program to a .cgm file, complete or not at all. It runs on every instruction set."""
        save_program(self.settled(), path)

    @property
    def precision(self) -> Precision:
        """What maps and weights are stored as: "float32", "bf16" or "int8"; the least precise of these."""
        return precision_of(self.program)

    @property
    def activation_bytes(self) -> int:
        """Memory for the feature maps of one sample, of the size that the engine was compiled for."""
        return self._executor.bytes

    def settled(self) -> Program:
        """The program, of which it is known from now on whether it is for any size, as it is saved."""
        with self._lock:
            if self._settle is not None:
                self.program, self._settle = self._settle(self.program), None
            return self.program

    def executor_at(self, height: int, width: int) -> tuple[Program, Executor]:
        """The program for images of that size, and what runs it; those of the sizes used last are kept.

        For code that times or analyses operations: an executor takes inputs and masks unchecked.
        """
        size = (height, width)
        with self._lock:
            prepared = self._prepared.get(size)
            if prepared is None:
                program = self.program
                if size != _size(program):
                    program = at(self.settled(), height, width)
                prepared = self._prepared[size] = program, self._make(program, self.threads, self.isa)
                while len(self._prepared) > KEPT_SIZES:
                    self._prepared.popitem(last=False)
            self._prepared.move_to_end(size)
            return prepared

    def __getstate__(self) -> dict[str, Any]:
        # An engine is its program: what was made ready for this machine is made again where it is unpickled.
        return {"program": self.settled(), "threads": self.threads, "isa": self.isa, "executor": self._make}

    def __setstate__(self, state: dict[str, Any]) -> None:
        isa = state["isa"] if state["isa"] in instruction_sets(precision_of(state["program"])) else None
        self.__init__(state["program"], threads=state["threads"], isa=isa, executor=state["executor"])  # type: ignore[misc]

    def _outputs(self, results: Results) -> tuple[Any, ...]:
        arrays = zip(results.outputs, self._are_vectors, strict=True)
        return tuple([array[:, :, 0, 0] if is_vector else array for array, is_vector in arrays])

    def _masks(
        self, given: Mapping[str, npt.ArrayLike], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, np.ndarray]:
        masks = {}
        # Those of a network (`Decisions`) or of another run come with more than their masks.
        arrays = given.numpy() if hasattr(given, "numpy") else given
        if not isinstance(arrays, Mapping):
            raise InputError(f"given is a {type(given).__name__}; give masks by the names of their gates, as in a dict")
        for name, mask in arrays.items():
            if name not in shapes:
                raise InputError(
                    f"a mask was given for '{name}'; this network's gates are: {', '.join(shapes) or 'none'}"
                )
            array = np.asarray(mask.mask if isinstance(mask, GateDecision) else mask)
            if array.shape != shapes[name] or not bool(((array == 0) | (array == 1)).all()):
                raise InputError(
                    f"the mask given for gate '{name}' has shape {list(array.shape)}; it takes zeros and ones of shape "
                    f"{list(shapes[name])}"
                )
            masks[name] = np.ascontiguousarray(array, dtype=np.uint8)
        return masks


def _size(program: Program) -> tuple[int, int]:
    first = program.value(program.inputs[0])
    return first.height, first.width


def load(
    path: str | PathLike[str], *, threads: int | None = None, isa: str | None = None, precision: str | None = None
) -> Engine:
    """The engine of a .cgm file, in the file's precision or another. Needs no torch; nothing in the file is executed.

    Raises `CheckpointError` for a file that is damaged, foreign, or of a newer format.
    """
    return Engine(load_program(path), threads=threads, isa=isa, precision=precision)
