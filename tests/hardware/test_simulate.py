import dataclasses
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.programs import images as random_images
from tests.engine.programs import masks as random_masks
from tests.engine.programs import programs
from tests.hardware.programs import METHODS, engine_of, images_of, masks_of, trace_of

import convgate
from convgate.engine import Engine
from convgate.errors import InputError
from convgate.gating import Decisions
from convgate.hardware import Trace, accelerator, simulate
from convgate.hardware.digest import digest
from convgate.hardware.trace import open_trace
from convgate.hardware.workload import Workload

MACHINE = accelerator("dgnet-ultra96")
OTHERS = [accelerator("edge-8"), accelerator("scalesim-32"), accelerator("dgnet-ultra96", timing="overlapped")]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_three_counts_of_macs_agree(method, share):
    """The ledger's, the engine's (counted by its kernels) and the simulator's."""
    engine, net = engine_of(method)
    masks = masks_of(engine.program, 3, share)
    images = images_of(engine.program, 3)
    run = engine.run(images, given=masks)
    decisions = net.decide(torch.from_numpy(images))[1]
    given = Decisions(
        {n: dataclasses.replace(d, mask=torch.from_numpy(masks[n]).float()) for n, d in decisions.items()}
    )
    simulated = simulate(engine.program, Trace.of(engine.program, masks), MACHINE)
    by_layer = simulated.gated.by_layer()
    for layer, macs in run.by_layer.items():
        assert (by_layer.get(layer, 0) == macs).all(), layer
    assert (simulated.gated.macs.sum(1) == net.cost(given).macs.numpy()).all()
    assert simulated.dense.macs.sum() == net.ledger.dense


@pytest.mark.parametrize("method", ["channel", "channel_by_groups", "channel_first"])
def test_partial_sums_of_integers_take_the_array_as_those_of_float32(method):
    engine, net = engine_of(method)
    images = images_of(engine.program, 2)
    integers = convgate.quantize(net, [torch.from_numpy(images)], threads=1)
    masks = masks_of(engine.program, 2)
    run = integers.run(images, given=masks)
    found, plain = (simulate(p, Trace.of(p, masks), MACHINE).gated for p in (integers.program, engine.program))
    by_layer = found.by_layer()
    for layer, macs in run.by_layer.items():
        assert (by_layer.get(layer, 0) == macs).all(), layer
    sums = [
        {line.name: report.cycles["compute"][:, i].tolist() for i, line in enumerate(report.lines) if report.macs[0, i]}
        for report in (found, plain)
    ]
    completed = {step.name for step in Workload.of(integers.program).array_steps() if step.completion}
    assert len(completed) == len(integers.program.gates)
    assert all(sums[0][name] == sums[1][name] for name in completed)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs(), st.floats(0, 1), st.integers(0, 1000))
def test_macs_of_any_program_are_those_that_the_engine_executes(program, share, seed):
    try:
        Workload.of(program)
    except InputError:  # it only rearranges what it is given
        return
    decided = random_masks(program, 2, share, seed)
    run = Engine(program, threads=1).run(*random_images(program, 2, seed), given=decided)
    if program.gates:
        trace = Trace.of(program, decided)
    else:
        first = program.value(program.inputs[0])
        trace = Trace(digest(program), (first.height, first.width), (), {}, 2)
    for machine in (MACHINE, OTHERS[1]):
        found = simulate(program, trace, machine).gated
        assert (found.macs.sum(1) == run.macs).all()
        assert (found.by_line * machine.peak_macs_per_cycle >= found.macs).all()


@pytest.mark.parametrize("machine", [MACHINE, *OTHERS], ids=lambda m: f"{m.name}-{m.timing}")
@pytest.mark.parametrize("method", METHODS)
def test_no_machine_beats_its_multipliers(machine, method):
    engine, _ = engine_of(method)
    found = simulate(engine.program, trace_of(engine.program, 4), machine)
    for report in (found.gated, found.dense):
        assert (report.by_line * machine.peak_macs_per_cycle >= report.macs).all()
        assert all((cycles >= 0).all() for cycles in report.cycles.values())
        assert all((n >= 0).all() for of in (report.words, report.bursts, report.actions) for n in of.values())
        for tensor, words in report.words.items():
            assert (report.bursts[tensor] * machine.dram_burst_bytes >= words * machine.word_bytes).all()


@pytest.mark.parametrize("method", METHODS)
def test_closing_more_never_costs_more(method):
    """Compute, weight loading and traffic in words; stalls and bursts may shift."""
    program = engine_of(method)[0].program
    more = masks_of(program, 6, 0.6)
    less = {name: mask & masks_of(program, 6, 0.7, seed=1)[name] for name, mask in more.items()}
    a, b = (simulate(program, Trace.of(program, masks), MACHINE).gated for masks in (less, more))
    busy = [sum(r.cycles[c] for c in ("compute", "weight loading")) for r in (a, b)]
    assert (busy[0] <= busy[1]).all()
    for tensor in a.words:
        assert (a.words[tensor] <= b.words[tensor]).all(), tensor
        assert (a.bursts[tensor] <= b.bursts[tensor]).all(), tensor


@pytest.mark.parametrize("method", ["dual", "batch_shaping", "layer_skipping", "global_gater"])
def test_with_all_gates_open_the_array_works_as_without_gates(method):
    program = engine_of(method)[0].program
    found = simulate(program, open_trace(program), MACHINE)
    dense = {line.name: number for number, line in enumerate(found.dense.lines)}
    for number, line in enumerate(found.gated.lines):
        if not line.head:
            for cause in ("compute", "fill and drain", "vector"):
                assert found.gated.cycles[cause][0, number] == found.dense.cycles[cause][0, dense[line.name]]
            for tensor in ("inputs", "weights"):
                assert found.gated.words[tensor][0, number] == found.dense.words[tensor][0, dense[line.name]]
    assert found.speedup[0] < 1  # the heads are not for nothing


def test_everything_closed_leaves_heads_and_what_is_never_gated():
    program = engine_of("layer_skipping")[0].program
    found = simulate(program, trace_of(program, 1, share=0.0), MACHINE).gated
    skipped = [number for number, line in enumerate(found.lines) if line.layer.endswith((".conv1", ".conv2"))]
    assert skipped
    for cause in ("compute", "weight loading", "fill and drain"):
        assert not found.cycles[cause][:, skipped].any()
    assert all(not words[:, skipped].any() for words in (found.words["inputs"], found.words["weights"]))


def test_chunks_have_no_more_decisions_than_fit(monkeypatch):
    module = sys.modules["convgate.hardware.simulate"]  # the function has its name
    program = engine_of("dual")[0].program
    trace, seen = trace_of(program, 7), []
    workload = module.simulate_workload
    monkeypatch.setattr(module, "simulate_workload", lambda *given: seen.append(given[3]) or workload(*given))
    monkeypatch.setattr(module, "_DECISIONS", 3 * sum(gate.entries for gate in trace.gates))
    assert simulate(program, trace, MACHINE).gated.by_line.shape[0] == 7
    assert seen == [3, 3, 1, 1]  # and the dense one
    monkeypatch.setattr(module, "_DECISIONS", 1)
    simulate(program, trace.part(0, 2), MACHINE)
    assert seen[4:] == [1, 1, 1]


def test_images_are_independent_of_each_other(monkeypatch):
    program = engine_of("dual")[0].program
    trace = trace_of(program, 7)
    whole = simulate(program, trace, MACHINE).gated
    monkeypatch.setattr(sys.modules["convgate.hardware.simulate"], "_IMAGES", 3)  # the function has its name
    parts = simulate(program, trace, MACHINE).gated
    alone = simulate(program, trace.part(4, 5), MACHINE).gated
    assert (whole.by_line == parts.by_line).all()
    assert (whole.by_line[4] == alone.by_line[0]).all()
    assert (whole.bursts["weights"] == parts.bursts["weights"]).all()


def test_which_channels_are_open_does_not_matter_to_the_array():
    program = engine_of("batch_shaping")[0].program
    masks = masks_of(program, 5)
    rng = np.random.default_rng(3)
    other = {name: rng.permuted(mask, axis=1) for name, mask in masks.items()}
    a, b = (simulate(program, Trace.of(program, m), MACHINE).gated for m in (masks, other))
    assert (a.cycles["compute"] == b.cycles["compute"]).all()
    assert (a.words["weights"] == b.words["weights"]).all()


def test_groups_as_wide_as_the_array_waste_nothing():
    """A channel gate of 16 closes whole columns: compute falls as the MACs of the gated convolution do."""
    program = engine_of("channel_by_groups")[0].program
    wide = accelerator("dgnet-ultra96", columns=8)
    masks = masks_of(program, 4, 0.3)
    found = simulate(program, Trace.of(program, masks), wide).gated
    number = [line.layer for line in found.lines].index("layer3.0.conv2")
    completed = found.macs[:, number] - found.macs[:, number].min()
    cycles = found.cycles["compute"][:, number] - found.cycles["compute"][:, number].min()
    # Rest rows: 3 of 4 chunks of 16 channels on 16 rows; every sent position is 16 rows and 8 columns of MACs.
    assert (completed == cycles * 16 * 8).all()


@pytest.mark.parametrize("shares", [(0.2, 0.9)])
def test_per_image_figures_follow_the_decisions(shares):
    program = engine_of("dual")[0].program
    few, many = (simulate(program, trace_of(program, 8, share), MACHINE) for share in shares)
    assert few.speedup.mean() > many.speedup.mean() > 0.5
    data = few.as_data()
    assert data["speedup"]["p5"] <= data["speedup"]["mean"] <= data["speedup"]["p95"]
    assert sum(data["gated"]["cycles_by_cause"].values()) == pytest.approx(data["gated"]["cycles"])
    assert set(data["assumed"]) == set(MACHINE.assumed)


def test_a_small_network_by_hand():
    """One 1x1 convolution of 20 to 40 channels at 3x3 positions on a 16x16 array; 8 bytes per cycle."""
    engine = convgate.compile(torch.nn.Conv2d(20, 40, 1), torch.zeros(1, 20, 3, 3), threads=1)
    dense = simulate(engine.program, _nothing(engine), MACHINE).dense
    assert dense.cycles["compute"].sum() == 9 * 2 * 3  # images are sent tap by tap: 20 rows are two row blocks
    # Folds of 16, 4, 16, 4, 16, 4 rows: the first waits for 16 rows; after folds of 9 positions, two wait for 16 rows.
    assert dense.cycles["weight loading"].sum() == 16 + 2 * (16 - 9)
    assert dense.cycles["fill and drain"].sum() == 16 + 16 - 1 + 6
    assert dense.words["inputs"].sum() == 9 * 20
    assert dense.words["weights"].sum() == 800
    assert dense.words["outputs"].sum() == 360
    assert dense.bursts["weights"].sum() == 20  # rows of 20 bytes, padded to 32
    # Loads: latency, 20 + 3 bursts of 8 cycles; the store: latency, 6 bursts.
    assert dense.cycles["memory"].sum() == (60 + 23 * 8) + (60 + 6 * 8)


def _nothing(engine):
    from convgate.hardware.digest import digest

    value = engine.program.value(engine.program.inputs[0])
    return Trace(digest(engine.program), (value.height, value.width), (), {}, 1)


@pytest.mark.parametrize("model", ["cifar_mobilenet_v1", "cifar_resnet20"])
def test_depthwise_networks_are_counted_too(model):
    engine, _ = engine_of("batch_shaping" if "mobile" not in model else "dual", model)
    masks = masks_of(engine.program, 2)
    run = engine.run(images_of(engine.program, 2), given=masks)
    found = simulate(engine.program, Trace.of(engine.program, masks), MACHINE)
    assert (found.gated.macs.sum(1) == run.macs).all()


def test_a_gate_on_both_sides_of_a_convolution_closes_both():
    program = engine_of("batch_shaping")[0].program
    both = [
        dataclasses.replace(op, out_channels=op.in_channels) if op.output == "layer1.0.conv2" else op
        for op in program.operations
    ]
    program = dataclasses.replace(program, operations=tuple(both))
    assert any(getattr(op, "in_channels", "") and op.in_channels == op.out_channels for op in program.operations)
    masks = masks_of(program, 2)
    run = Engine(program, threads=1).run(images_of(program, 2), given=masks)
    assert (simulate(program, Trace.of(program, masks), MACHINE).gated.macs.sum(1) == run.macs).all()


def test_a_name_for_a_machine_and_a_trace_without_images_are_refused():
    program = engine_of("dual")[0].program
    with pytest.raises(InputError, match=r"'dgnet-ultra96'; give an Accelerator"):
        simulate(program, trace_of(program, 2), "dgnet-ultra96")
    with pytest.raises(InputError, match="no images"):
        simulate(program, trace_of(program, 2).part(2, 4), MACHINE)
