"""A simulation as text."""

import re

import numpy as np
import pytest
from tests.hardware.programs import engine_of, simulated, trace_of

from convgate.hardware import accelerator, simulate
from convgate.hardware.table import layers, summary


@pytest.fixture(scope="module")
def found():
    return simulated("dual", 6)


def numbers(text, name):
    """The numbers of a row, as they are printed."""
    (line,) = (line for line in text.splitlines() if re.match(rf"{re.escape(name)}  ", line))
    return re.findall(r"[\d,]+", line[len(name) :])


def test_cycles_and_traffic_have_a_spread(found):
    text = summary(found)
    total = found.gated.total
    shown = (found.dense.total[0], total.mean(), *np.percentile(total, (5, 95)))
    assert numbers(text, "cycles")[:4] == [f"{number:,.0f}" for number in shown]
    moved = sum(bursts.sum(1) for bursts in found.gated.bursts.values()) * 64
    shown = (moved.mean(), *np.percentile(moved, (5, 95)))
    assert numbers(text, "bytes off chip, in bursts of 64")[1:4] == [f"{number:,.0f}" for number in shown]


def test_accesses_on_chip_are_shown_by_buffer(found):
    text = summary(found)
    actions = found.gated.actions
    sums = (actions["sum_buffer_read"] + actions["sum_buffer_write"]).sum(1).mean()
    assert numbers(text, "  sums")[1] == f"{sums:,.0f}"
    every = sum(of.sum(1).mean() for name, of in actions.items() if "buffer" in name)
    assert numbers(text, "words read or written on chip")[1] == f"{every:,.0f}"


def test_steps_show_dense_beside_gated(found):
    heads, _, first = layers(found).splitlines()[:3]
    assert re.split(r"\s{2,}", heads)[-2:] == ["bytes dense", "gated"]
    moved = sum(bursts[0, 0] for bursts in found.dense.bursts.values()) * 64
    assert re.split(r"\s{2,}", first)[-2] == f"{moved:,}"


def test_an_energy_table_that_lacks_actions_says_which(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nsource: a guess\npicojoules: {mac: 1, register: 1, dram_read: 9}\n"
    )
    program = engine_of("dual")[0].program
    machine = accelerator("dgnet-ultra96", energy=str(tmp_path / "mine.yaml"))
    found = simulate(program, trace_of(program, 1), machine)
    text = summary(found)
    left_out = [f"{name}_buffer_{how}" for name in ("input", "weight", "sum") for how in ("read", "write")]
    assert "energy in nJ (mine, without 7 actions)" in text
    assert f"so not in the energy: {', '.join([*left_out, 'dram_write'])}" in text
    assert found.as_data()["energy_left_out"] == [*left_out, "dram_write"]
    whole = simulate(program, trace_of(program, 1), accelerator("dgnet-ultra96"))
    assert "not in the energy" not in summary(whole)
