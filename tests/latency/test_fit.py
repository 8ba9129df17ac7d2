"""Fitting, on engines whose times are made up, so that what comes out is known."""

import numpy as np
import pytest
import torch

from convgate import ChannelGating, DualGating, compile, gate  # noqa: A004
from convgate.engine.program import Completing, Conv
from convgate.errors import CheckpointError, InputError
from convgate.latency import fit as fitting
from convgate.latency import fit_latency, load, save
from convgate.latency.fit import _draw, _least_squares
from convgate.models import create


@pytest.fixture(scope="module", params=[DualGating, ChannelGating])
def engine(request):
    torch.manual_seed(0)
    x = torch.randn(1, 3, 16, 16)
    return compile(gate(create("cifar_resnet8").eval(), request.param(), x), threads=1)


class MadeUp:
    """An executor whose operations take a millisecond each, and gated convolutions as long as their MACs say."""

    def __init__(self, program, executor):
        self.program, self.executor, self.labels = program, executor, executor.labels

    def run(self, inputs, given, *, details=False, times=False):
        real = self.executor.run(inputs, given, details=True)
        by_layer = dict(zip(self.program.layers, real.macs[0], strict=True))
        layers = {op.output: op.layer for op in self.program.operations if hasattr(op, "layer")}
        seconds = [1e-3 + 1e-8 * by_layer.get(layers.get(name), 0) for name in self.labels]
        return real._replace(seconds=np.array([seconds]))


@pytest.fixture
def made_up(engine, monkeypatch):
    program, executor = engine.executor_at(16, 16)
    monkeypatch.setattr(engine, "executor_at", lambda *size: (program, MadeUp(program, executor)))
    return engine


def test_finds_what_times_depend_on(made_up, monkeypatch):
    monkeypatch.setattr(fitting, "_LANES", {made_up.isa: 1})  # MACs count channels, not vectors of them
    model = fit_latency(made_up, seconds=0)
    generator = np.random.default_rng(5)
    program, executor = made_up.executor_at(16, 16)
    inputs = [np.zeros((1, 3, 16, 16), np.float32)]
    gated = {
        op.output
        for op in program.operations
        if isinstance(op, Completing) or (isinstance(op, Conv) and (op.positions or op.in_channels or op.out_channels))
    }
    compared = set()
    for number in range(5):
        masks = _draw(program.gates, generator, number)
        times = dict(zip(executor.labels, 1e3 * executor.run(inputs, masks).seconds[0], strict=True))
        for term in model.terms:
            if term.operation in times and term.shares:
                assert term.milliseconds(masks, 1)[0] == pytest.approx(times[term.operation], rel=0.02)
                compared.add(term.operation)
    assert len(gated) >= 6  # two in each of the three blocks
    assert gated <= compared


def test_the_error_is_that_of_masks_that_were_not_fitted_to(made_up, monkeypatch):
    """Calls take what their operations take, so that the model tells them as well as these; or twice as long."""
    monkeypatch.setattr(fitting, "_LANES", {made_up.isa: 1})
    clock, run, longer = [0.0], MadeUp.run, [1.0]

    def timed(self, inputs, given, **how):
        found = run(self, inputs, given, **how)
        clock[0] += longer[0] * float(found.seconds.sum())
        return found

    monkeypatch.setattr(MadeUp, "run", timed)
    monkeypatch.setitem(fitting.CLOCKS, "wall", lambda: clock[0])
    assert fit_latency(made_up, seconds=0).error < 0.05
    longer[0] = 2.0
    assert fit_latency(made_up, seconds=0).error == pytest.approx(0.5, abs=0.05)


def test_all_open_takes_longest(made_up):
    model = fit_latency(made_up, seconds=0)
    closed, opened = model.range(made_up.program)
    assert closed < opened
    masks = {gate.name: np.ones((2, *gate.shape), np.uint8) for gate in made_up.program.gates}
    assert model.milliseconds(masks) == pytest.approx([opened, opened])
    assert sum(model.by_layer(masks).values()) == pytest.approx(model.milliseconds(masks))
    assert model.scaled(2.0).milliseconds(masks) == pytest.approx([2 * opened] * 2)


def test_what_handing_masks_in_costs_is_told_apart(made_up, monkeypatch):
    clock, run = [0.0], MadeUp.run

    def slow(self, inputs, given, **how):
        clock[0] += 3e-3 if given else 1e-3
        return run(self, inputs, given, **how)

    monkeypatch.setattr(MadeUp, "run", slow)
    monkeypatch.setitem(fitting.CLOCKS, "wall", lambda: clock[0])
    assert fit_latency(made_up, seconds=0).handed == pytest.approx(2.0)


def test_weights_are_not_negative():
    features = np.array([[1, 0.1], [1, 0.5], [1, 1.0]])
    assert _least_squares(features, np.array([1.0, 0.9, 0.8])) == pytest.approx([0.9, 0])


def test_an_engine_for_real(engine, tmp_path):
    seen = []
    model = fit_latency(engine, seconds=0, progress=seen.append)
    assert seen[-1] == 1
    assert 0 < model.error < 1  # how far off depends on what else the machine does
    save(model, tmp_path / "latency.json")
    again = load(tmp_path / "latency.json")
    assert again == model
    again.check_for(engine)
    run = engine.run(np.zeros((2, 3, 16, 16), np.float32))
    assert model.milliseconds(run.decisions).shape == run.milliseconds.shape == (2,)
    assert (run.milliseconds > 0).all()


def test_a_model_is_for_one_engine(made_up):
    model = fit_latency(made_up, seconds=0)
    other = compile(gate(create("cifar_resnet20").eval(), DualGating(), torch.zeros(1, 3, 16, 16)), threads=2)
    with pytest.raises(InputError, match=r"threads 1, not 2.*program"):
        model.check_for(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "not JSON"),
        (lambda text: "[" * 100_000, "not JSON"),
        (lambda text: "{}", "not a latency model"),
        (lambda text: text.replace('"weights"', '"heights"'), "damaged"),
        (lambda text: text.replace('"factor": ', '"factor": -'), "damaged"),
        (lambda text: text.replace('"factor": ', '"factor": 1' + 400 * "0" + ', "old": '), "damaged"),
        (lambda text: text.replace('"handed": ', '"handed": 1' + 400 * "0" + ', "old": '), "damaged"),
        (lambda text: text.replace('"Positions"', '"os.system"').replace('"Activations"', '"os.system"'), "damaged"),
    ],
)
def test_damaged_files(made_up, tmp_path, change, message):
    path = tmp_path / "latency.json"
    save(fit_latency(made_up, seconds=0), path)
    path.write_text(change(path.read_text()))
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_what_cannot_be_fitted(engine):
    with pytest.raises(InputError, match="clock"):
        fit_latency(engine, clock="sun")
    dense = compile(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8), threads=1)
    with pytest.raises(InputError, match="no gates"):
        fit_latency(dense)
    two = compile(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8), threads=2)
    with pytest.raises(InputError, match="one thread"):
        fit_latency(two, clock="cpu")


def test_masks_are_drawn_from_closed_to_open(engine):
    gates = engine.program.gates
    generator = np.random.default_rng(0)
    opened, closed, *drawn = (_draw(gates, generator, n) for n in range(fitting._MASKS))
    assert all(mask.all() for mask in opened.values())
    assert not any(mask.any() for mask in closed.values())
    means = [mask.mean() for masks in drawn for mask in masks.values()]
    assert min(means) == 0
    assert max(means) == 1
    assert 0.4 < np.mean(means) < 0.6
