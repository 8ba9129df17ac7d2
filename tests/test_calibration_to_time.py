"""Calibration to milliseconds, with times that are made up, of an engine that is slower than its model says."""

from dataclasses import replace

import pytest
import torch
from tests.made_up_times import made_up_model, watching

from convgate import DualGating, calibrate, compile, gate, quantize  # noqa: A004
from convgate.calibration import share_of_time, timed
from convgate.errors import BudgetError, InputError
from convgate.models import create
from convgate.reading.modes import evaluating


@pytest.fixture
def to_time(make_small, monkeypatch):
    """A network, images, an engine and a model of it; the engine takes 1.2 times what the model says."""
    net, x = make_small(n=32)
    engine = compile(net, threads=1)
    model = made_up_model(engine)
    monkeypatch.setattr(timed, "watch", watching(model, 1.2))
    return net, x, engine, model


def takes(net, x, model):
    with torch.no_grad(), evaluating(net):
        return 1.2 * float(model.milliseconds(net.decide(x)[1].numpy()).mean())


def test_hits_what_the_engine_takes(to_time):
    net, x, engine, model = to_time
    low, high = (1.2 * value for value in model.range(engine.program))
    asked = low + 0.6 * (high - low)
    told = []

    def on_pass(*one):
        told.append(one)

    done = calibrate(net, [x], milliseconds=asked, engine=engine, latency=model, tolerance=0.01, on_pass=on_pass)
    assert takes(net, x, model) == pytest.approx(asked, rel=0.02)
    assert done.target == pytest.approx(asked)
    assert done.reached == pytest.approx(asked, rel=0.02)
    assert done.latency.factor == pytest.approx(1.2)
    assert [number for number, _ in told] == list(range(1, done.passes + 1))
    assert told[-1][1] == pytest.approx(asked, rel=0.02)
    with torch.no_grad(), evaluating(net):
        assert done.macs == pytest.approx(net.cost(net.decide(x)[1]).ratio.mean().item(), rel=1e-3)


def test_the_engine_that_is_timed_decides_by_itself(to_time, monkeypatch):
    """As users run it: it is made of the network as it is calibrated so far, and handed nothing."""
    net, x, engine, model = to_time
    seen, watch = [], timed.watch
    monkeypatch.setattr(timed, "watch", lambda *given, **how: seen.append(given) or watch(*given, **how))
    low, high = model.range(engine.program)
    calibrate(net, [x], milliseconds=low + 0.6 * (high - low), engine=engine, latency=model, tolerance=0.01)
    assert all(len(given) == 2 and given[0] is not engine and given[0].threads == 1 for given in seen)
    decided = seen[-1][0].run(x[:1].numpy()).decisions
    with torch.no_grad(), evaluating(net):
        assert all((decided[name].mask == d.mask.numpy()).all() for name, d in net.decide(x[:1])[1].items())


def test_an_engine_of_integers_is_handed_masks_and_what_that_costs_is_taken_off(to_time, monkeypatch):
    net, x, *_ = to_time
    engine = quantize(net, [x], threads=1)
    model = made_up_model(engine)
    low, high = model.range(engine.program)
    asked = low + 0.6 * (high - low)
    model = replace(model, handed=0.3)
    monkeypatch.setattr(timed, "watch", watching(model, 1.2))
    done = calibrate(net, [x], milliseconds=asked, engine=engine, latency=model, tolerance=0.01)
    assert takes(net, x, model) == pytest.approx(asked, rel=0.02)
    assert done.latency.handed == 0.3
    monkeypatch.setattr(timed, "watch", watching(replace(model, handed=0.0), 1.2))
    with pytest.raises(InputError, match="quiet machine"):
        calibrate(net, [x], milliseconds=asked, engine=engine, latency=replace(model, handed=100.0))


@pytest.mark.parametrize(("factor", "where"), [(0.9, "low"), (1.1, "high")])
def test_out_of_reach_says_the_range_and_changes_nothing(to_time, factor, where):
    net, x, engine, model = to_time
    low, high = model.range(engine.program)
    before = [g.offset.clone() for _, g in net.gate_modules()]
    with pytest.raises(BudgetError, match=f"from {low:.3g} ms.*to {high:.3g} ms"):
        calibrate(net, [x], milliseconds=factor * {"low": low, "high": high}[where], engine=engine, latency=model)
    assert all(torch.equal(a, g.offset) for a, (_, g) in zip(before, net.gate_modules(), strict=True))


def test_what_does_not_go_together(to_time):
    net, x, engine, _ = to_time
    with pytest.raises(InputError, match="one of the two"):
        calibrate(net, [x], 0.4, milliseconds=5.0)
    with pytest.raises(InputError, match="above 0"):
        calibrate(net, [x], milliseconds=-1.0)
    with pytest.raises(InputError, match=r"milliseconds=\.\."):
        calibrate(net, [x], 0.5, engine=engine)
    other = gate(create("cifar_resnet8").eval(), DualGating(), torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match="another network"):
        calibrate(other, [x], milliseconds=5.0, engine=engine)
    with pytest.raises(InputError, match=r"convgate\.compile"):
        calibrate(net, [x], milliseconds=5.0, engine="engine")
    with pytest.raises(InputError, match="fit_latency"):
        calibrate(net, [x], milliseconds=5.0, engine=engine, latency="file.json")


def test_the_line_of_progress_goes_where_the_engine_cannot_be_timed(to_time, monkeypatch, capsys):
    net, x, engine, _ = to_time

    def fails(*_, progress):
        progress(0.5)
        raise InputError("no times")

    monkeypatch.setattr(timed, "fit_latency", fails)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with pytest.raises(InputError, match="no times"):
        calibrate(net, [x], milliseconds=5.0, engine=engine)
    assert "50%" in (shown := capsys.readouterr().err)
    assert shown.endswith("\r\033[K")


def test_times_that_do_not_repeat_are_told(to_time, monkeypatch, caplog):
    net, x, engine, model = to_time
    monkeypatch.setattr(timed, "watch", watching(model, *[1.2, 0.8] * 5))
    low, high = model.range(engine.program)
    calibrate(
        net, [x], milliseconds=low + 0.5 * (high - low), engine=engine, latency=model, agreement=False, tolerance=0.02
    )
    assert "Is the machine busy?" in caplog.text


def test_images_of_another_size_are_refused(to_time):
    net, x, engine, model = to_time
    low, high = model.range(engine.program)
    with pytest.raises(InputError, match="of that size"):
        calibrate(net, [x[:, :, ::2, ::2]], milliseconds=(low + high) / 2, engine=engine, latency=model)


def test_the_share_of_a_time_rises_with_it(to_time):
    net, _, engine, model = to_time
    low, high = model.range(engine.program)
    shares = [share_of_time(net, model, low + part * (high - low)) for part in (0.2, 0.5, 0.8)]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1
    with pytest.raises(BudgetError, match="every gate open"):
        share_of_time(net, model, 2 * high)
