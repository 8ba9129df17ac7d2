"""Fitting a latency model: an engine is run under drawn masks, and each operation's times are explained by its gates.

Masks are given to the engine, gate by gate open to a share of its own, so that what positions, inputs and outputs cost
can be told apart; a network's own decisions are nearly always correlated.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle

import numpy as np

from convgate.engine import Engine
from convgate.engine.program import Completing, Conv, Gate, GateKind, Mask, Operation, Program, decides, label
from convgate.errors import InputError
from convgate.latency.model import LatencyModel, Term, products
from convgate.latency.origin import Origin
from convgate.latency.shares import Activations, Channels, Positions, Share, Squares
from convgate.latency.watch import CLOCKS, check_clock

__all__ = ["fit_latency"]

_MASKS = 64
_HELD_OUT = 4
# Every fourth set of masks is not fitted to.
_LEAST_ROUNDS = 4
_PAIRS = 8
# Calls in each round that are handed the engine's own decisions, and as many that are not, by turns.
_LANES = {"avx512": 16, "avx512bf16": 16, "avx512vnni": 16, "avx2": 8, "avxvnni": 8}
# Channels that a vector holds, by instruction set; elsewhere 4.


def fit_latency(
    engine: Engine,
    *,
    seconds: float = 5.0,
    clock: str = "wall",
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> LatencyModel:
    """Measure what each operation of an engine costs, for one image at a time, and fit a model of it.

    Every operation is timed under 64 drawn masks, in rounds; of each the shortest time counts, so that other work on
    the machine does little harm. The weights are least squares that are not negative. A quarter of the masks is held
    out, and `error` is told on it.

    Args:
        engine: of a gated network, for images of the size that it was compiled for.
        seconds: how long to measure, by the clock; 4 rounds at least.
        clock: "wall", or "cpu" for one thread on a busy machine (`convgate.latency.CLOCKS`).
        seed: of the masks and the image.
        progress: is told the share that is done.

    Raises:
        InputError: an engine without gates, or a clock that does not tell its time.

    """
    check_clock(clock, engine)
    program = engine.program
    if not program.gates:
        raise InputError("fit_latency(): this engine has no gates, so that every image takes as long; time it directly")
    generator = np.random.default_rng(seed)
    masks = [_draw(program.gates, generator, number) for number in range(_MASKS)]
    timed = _measure(engine, masks, seconds, clock, generator, progress)
    kept = np.arange(_MASKS) % _HELD_OUT != _HELD_OUT - 1
    stacked = {gate.name: np.concatenate([mask[gate.name] for mask in masks]) for gate in program.gates}
    fitted = {name: mask[kept] for name, mask in stacked.items()}
    lanes = _LANES.get(engine.isa, 4)
    terms = []
    numbers = {name: number for number, name in enumerate(timed.labels)}
    for operation in program.operations:
        if label(operation) not in numbers:
            continue  # the runtime computes it together with another
        number = numbers[label(operation)]
        took = timed.operations[kept, number]
        shares = _shares(program, operation, lanes)
        if decides(operation):
            # Given masks, gates have nothing to do.
            weights = np.array([timed.deciding[number]])
        elif shares:
            weights = _least_squares(products([share.of(fitted) for share in shares], int(kept.sum())), took)
        else:
            weights = np.array([np.median(took)])
        layer = str(getattr(operation, "layer", ""))
        terms.append(Term(label(operation), layer, shares, tuple(float(weight) for weight in weights)))
    rest = Term("the call", "", (), (float(max(timed.rest - timed.handed - timed.deciding.sum(), 0.0)),))
    model = LatencyModel(Origin.of(engine, clock), (*terms, rest), 0.0, timed.spread, handed=timed.handed)
    expected = timed.handed + model.milliseconds({name: mask[~kept] for name, mask in stacked.items()})
    error = float(np.abs(expected / timed.shortest[~kept] - 1).mean())
    # What is typical is longer than the shortest.
    factor = float(timed.typical.mean() / timed.shortest.mean())
    return replace(model, error=error, factor=factor)


@dataclass(frozen=True, eq=False)
class _Timed:
    """In milliseconds: `operations` [masks, operations] the shortest times under each mask, in the order of `labels`,
    `deciding` [operations] those of gates that decide; `shortest` and `typical` [masks] the shortest and the median of
    whole calls, `rest` what of a call no operation takes; `handed` how much longer one takes that is handed the masks
    that the engine would decide on.
    """

    labels: list[str]
    operations: np.ndarray
    deciding: np.ndarray
    shortest: np.ndarray
    typical: np.ndarray
    rest: float
    handed: float
    spread: float


def _measure(
    engine: Engine,
    masks: Sequence[Mapping[str, np.ndarray]],
    seconds: float,
    clock: str,
    generator: np.random.Generator,
    progress: Callable[[float], None],
) -> _Timed:
    shape = engine.program.value(engine.program.inputs[0]).shape
    _, executor = engine.executor_at(*shape[1:])
    inputs = [
        generator.standard_normal((1, *engine.program.value(name).shape), dtype=np.float32)
        for name in engine.program.inputs
    ]
    now = CLOCKS[clock]
    decided = engine.run(*inputs).decisions
    # By turns, so that none was read by the call before: masks that are still in the cache cost less.
    copies = cycle([{name: decision.mask.copy() for name, decision in decided.items()} for _ in masks])
    by_operation, deciding, calls, rests, handed = [], [], [], [], []
    begin, rounds = now(), -1  # the first round is to warm up
    while rounds < _LEAST_ROUNDS or now() - begin < seconds:
        took = np.empty((len(masks), len(executor.labels)))
        called, rest = np.empty(len(masks)), np.empty(len(masks))
        for number in generator.permutation(len(masks)):
            start, wall = now(), time.perf_counter()
            times = executor.run(inputs, masks[number], times=True).seconds
            called[number], passed = 1e3 * (now() - start), 1e3 * (time.perf_counter() - wall)
            assert times is not None
            took[number] = 1e3 * times[0]
            rest[number] = passed - took[number].sum()
        free = executor.run(inputs, {}, times=True).seconds
        assert free is not None
        longer = [
            _took(now, partial(executor.run, inputs, next(copies))) - _took(now, partial(engine, *inputs))
            for _ in range(_PAIRS)
        ]
        rounds += 1
        if rounds > 0:
            by_operation.append(took)
            deciding.append(1e3 * free[0])
            calls.append(called)
            rests.append(rest)
            handed += longer
        done = max((rounds + 1) / (_LEAST_ROUNDS + 1), 0.0)
        progress(min(done, (now() - begin) / seconds, 1.0) if seconds > 0 else min(done, 1.0))
    low, middle, high = np.quantile(calls, [0.25, 0.5, 0.75], axis=0)
    return _Timed(
        executor.labels,
        np.min(by_operation, axis=0),
        np.min(deciding, axis=0),
        np.min(calls, axis=0),
        middle,
        float(np.median(np.min(rests, axis=0))),
        float(np.median(handed)),
        float(((high - low) / 2 / middle).mean()),
    )


def _took(now: Callable[[], float], call: Callable[[], object]) -> float:
    """Milliseconds of a call."""
    begin = now()
    call()
    return 1e3 * (now() - begin)


def _draw(gates: Sequence[Gate], generator: np.random.Generator, number: int) -> dict[str, np.ndarray]:
    """Masks of each gate, as many of its units open as a share drawn for it; the first all open, the second closed."""
    found = {}
    for gate in gates:
        # One in ten gates is open and one closed, as trained ones often are.
        share = float(np.clip(generator.uniform(-0.125, 1.125), 0, 1)) if number > 1 else float(number == 0)
        found[gate.name] = (generator.random((1, *gate.shape)) < share).astype(np.uint8)
    return found


def _shares(program: Program, operation: Operation, lanes: int) -> tuple[Share, ...]:
    """What of an operation its gates leave open."""
    gates = {gate.name: gate for gate in program.gates}
    if isinstance(operation, Mask):
        return (_part(program, gates[operation.gate], operation.output, operation.reach),)
    if isinstance(operation, Completing):
        gate, channels = gates[operation.gate], program.value(operation.output).channels
        return tuple(Activations(gate.name, channels, gate.group, at_once) for at_once in (1, lanes))
    if not isinstance(operation, Conv):
        return ()
    out, read = program.value(operation.output), program.value(operation.inputs[0])
    found: list[Share] = []
    if operation.positions:
        found.append(Positions(operation.positions, out.height, out.width, operation.reach))
        kernel = program.arrays[operation.weight].shape[2:]
        cut = operation.reach != (0, 0) or _cuts_squares(gates[operation.positions], out.shape)
        if kernel == (3, 3) and operation.stride == (1, 1) and cut:
            found.append(Squares(operation.positions, out.height, out.width, operation.reach))
    if operation.in_channels and operation.in_channels != operation.out_channels:
        found.append(Channels(operation.in_channels, read.channels, gates[operation.in_channels].group))
    if operation.out_channels:
        found.append(Channels(operation.out_channels, out.channels, gates[operation.out_channels].group, lanes))
    return tuple(found)


def _part(program: Program, gate: Gate, value: str, reach: tuple[int, int]) -> Share:
    channels, height, width = program.value(value).shape
    if gate.kind == GateKind.SPATIAL:
        return Positions(gate.name, height, width, reach)
    if gate.kind == GateKind.CHANNEL:
        return Channels(gate.name, channels, gate.group)
    return Activations(gate.name, channels, gate.group)


def _cuts_squares(gate: Gate, shape: tuple[int, int, int]) -> bool:
    """Whether a mask may open some positions of a square of 2 x 2 and close others."""
    _, rows, columns = gate.shape
    _, height, width = shape
    return bool(height % (2 * rows) or width % (2 * columns))


def _least_squares(features: np.ndarray, took: np.ndarray) -> np.ndarray:
    """Weights that are not negative: least squares, anew without what came out negative until nothing does."""
    weights, used = np.zeros(features.shape[1]), np.arange(features.shape[1])
    while used.size:
        found = np.linalg.lstsq(features[:, used], took, rcond=None)[0]
        if (found >= 0).all():
            weights[used] = found
            break
        used = np.delete(used, found.argmin())
    return weights
