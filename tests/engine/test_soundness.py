"""Engines: no lost NaN, no results by the caller's floating-point mode, no forks that crash or hang."""

import gc
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from convgate.engine.engine import Engine
from convgate.engine.program import (
    Activation,
    Add,
    Conv,
    Decide,
    Gate,
    GateKind,
    Mask,
    Pool,
    PoolToGrid,
    Program,
    Value,
)
from convgate.engine.runtime import instruction_sets
from convgate.errors import ProgramError

ISAS = instruction_sets()


def scaling(*weights, channels=1, size=2):
    """A chain of 1x1 convolutions of one input, each of which multiplies by its weight."""
    values = [Value("x", channels, size, size)]
    operations, arrays = [], {}
    for number, weight in enumerate(weights):
        arrays[f"w{number}"] = np.full((channels, 1, 1, 1), weight, np.float32)
        operations.append(Conv((values[-1].name,), f"y{number}", f"w{number}", "", f"y{number}", groups=channels))
        values.append(Value(f"y{number}", channels, size, size))
    layers = tuple(operation.layer for operation in operations)
    return Program(tuple(values), (), tuple(operations), ("x",), (values[-1].name,), arrays, layers)


def then(program, *operations, gates=(), **arrays):
    """The program with operations of one position after it, which give its only output."""
    shape = program.value(program.outputs[0]).shape
    new = [Value(operation.output, *shape) for operation in operations if not isinstance(operation, Decide)]
    return replace(
        program,
        values=(*program.values, *new),
        gates=gates,
        operations=(*program.operations, *operations),
        outputs=(new[-1].name,),
        arrays={**program.arrays, **arrays},
        layers=(*program.layers, *(op.layer for op in operations if isinstance(op, Conv))),
    )


def not_a_number():
    """inf - inf, from finite inputs and weights: 1e30 * 1e30, then + the same with the other sign."""
    program = scaling(1e30, 1e30)
    minus = Conv(("y1",), "minus", "negative", "", "minus")
    return then(program, minus, Add(("y1", "minus"), "nan"), negative=np.full((1, 1, 1, 1), -1, np.float32))


ONES = np.ones((1, 1, 2, 2), np.float32)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "name", ["relu", "relu6", "hardswish", "silu", "sigmoid", "hardsigmoid", "gelu", "tanh", "mish"]
)
def test_activations_keep_nan(isa, name):
    program = not_a_number()
    engine = Engine(then(program, Add(("nan", "nan"), "y", Activation(name))), threads=1, isa=isa)
    assert np.isnan(engine(ONES)).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pools_keep_nan(isa, kind):
    program = not_a_number()
    engine = Engine(then(program, Pool(("nan",), "y", kind, (1, 1), (1, 1))), threads=1, isa=isa)
    assert np.isnan(engine(ONES)).all()
    grid = then(program, PoolToGrid(("nan",), "y", maximum=kind == "max", grid=(2, 2)))
    assert np.isnan(Engine(grid, threads=1, isa=isa)(ONES)).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", list(GateKind))
def test_gates_keep_nan(isa, strict, kind):
    """A gate whose logit is NaN does not mask it away."""
    program = not_a_number()
    shape = (1, 1, 1) if kind == GateKind.CHANNEL else (1, 2, 2)
    gate = Gate("gate", kind, shape)
    logits, values = "nan", []
    operations = []
    if kind == GateKind.CHANNEL:
        operations.append(PoolToGrid(("nan",), "mean", grid=(1, 1)))
        logits, values = "mean", [Value("mean", 1, 1, 1)]
    operations.append(Decide((logits,), "gate", "offset", strict=strict))
    program = replace(
        program,
        values=(*program.values, *values),
        gates=(gate,),
        operations=(*program.operations, *operations),
        arrays={**program.arrays, "offset": np.zeros(gate.offset_shape, np.float32)},
    )
    if kind != GateKind.ACTIVATION:
        program = then(program, Mask(("nan",), "y", "gate"), gates=(gate,))
    run = Engine(program, threads=1, isa=isa).run(ONES)
    assert np.isnan(run.outputs[0]).all()
    assert (run.decisions["gate"].mask == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    with pytest.raises(ProgramError, match="not finite"):
        Engine(scaling(1.0, bad), threads=1)


def test_values_that_nothing_writes_are_refused():
    program = scaling(1.0)
    with pytest.raises(ProgramError, match="nothing writes"):
        Engine(replace(program, values=(*program.values, Value("unused", 1, 1, 1))), threads=1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2])
def test_results_do_not_depend_on_the_callers_denormal_mode(isa, threads):
    program = scaling(1e-20, 1e-20, 1e20, channels=32, size=8)
    x = np.linspace(1, 2, 64 * 32, dtype=np.float32).reshape(1, 32, 8, 8)
    wanted = Engine(program, threads=threads, isa=isa)(x)
    assert (wanted > 0).all()
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush denormals")
    try:
        found = Engine(program, threads=threads, isa=isa)(x)
        # What the mode was, it is again.
        assert (torch.full((4,), 1e-20) * 1e-20 == 0).all()
    finally:
        torch.set_flush_denormal(False)
    assert np.array_equal(found, wanted)


def test_engines_of_one_program_share_its_weights():
    channels = 2048
    weight = np.full((channels, channels, 1, 1), 0.5, np.float32)
    values = (Value("x", channels, 1, 1), Value("y", channels, 1, 1))
    conv = Conv(("x",), "y", "w", "", "y")
    program = Program(values, (), (conv,), ("x",), ("y",), {"w": weight}, ("y",))
    first = Engine(program, threads=1)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    others = [Engine(program, threads=1) for _ in range(4)]
    assert resident() - before < weight.nbytes / 2
    x = np.ones((1, channels, 1, 1), np.float32)
    assert all(np.array_equal(other(x), first(x)) for other in others)
    # They do not need the first one.
    del first
    gc.collect()
    assert others[0](x)[0, 0, 0, 0] == channels / 2


FORKS = """
import gc, os, sys, threading, time
import numpy as np
from convgate.engine.engine import Engine
from convgate.engine.program import Conv, Program, Value

threads = int(sys.argv[1])
values = (Value("x", 64, 32, 32), Value("y", 64, 32, 32))
conv = Conv(("x",), "y", "w", "", "y", padding=(1, 1, 1, 1))
weight = np.random.default_rng(0).normal(size=(64, 64, 3, 3)).astype(np.float32)
program = Program(values, (), (conv,), ("x",), ("y",), {"w": weight}, ("y",))
engine = Engine(program, threads=threads)
x = np.ones((1, 64, 32, 32), np.float32)
wanted = engine(x)

def run():
    assert np.array_equal(engine(x), wanted)

def delete():
    global engine
    engine = None
    gc.collect()

def own():
    assert np.array_equal(Engine(program, threads=threads)(x), wanted)

def grandchild():
    child("a grandchild", run)
    run()

def child(name, *what, leave=os._exit):
    pid = os.fork()
    if pid == 0:
        try:
            for f in what:
                f()
            leave(0)
        except SystemExit:
            raise
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
    for _ in range(600):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            assert status == 0, f"{name}: status {status}"
            return
        time.sleep(0.05)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError(f"{name} hangs")

child("runs an inherited engine", run, run)
child("deletes it", delete)
child("runs, then deletes it", run, delete)
child("deletes it, then makes its own", delete, own)
child("makes its own", own)
child("forks again", grandchild)
child("leaves with an inherited engine", leave=sys.exit)
stop = threading.Event()
big = np.repeat(x, 16, 0)
def busy():
    while not stop.is_set():
        engine(big)
worker = threading.Thread(target=busy)
worker.start()
for _ in range(5):
    time.sleep(0.02)
    child("runs an engine that is busy in the parent", run, delete)
    child("makes its own meanwhile", own)
stop.set()
worker.join()
run()
print("all children ended well")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
@pytest.mark.parametrize("threads", [1, 4])
def test_forked_children_neither_crash_nor_hang(threads):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(threads)], capture_output=True, text=True, timeout=300
    )
    assert "all children ended well" in done.stdout, done.stdout + done.stderr
