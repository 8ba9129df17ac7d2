from dataclasses import replace

import numpy as np
from tests.hardware.programs import engine_of, trace_of

from convgate.hardware import accelerator, simulate
from convgate.hardware.placement import place
from convgate.hardware.workload import Workload

MACHINE = accelerator("dgnet-ultra96")


def workload(method="dual"):
    return Workload.of(engine_of(method, size=32)[0].program)


def test_maps_stay_on_chip_as_long_as_there_is_room():
    found = workload()
    written = {step.writes for step in found.steps}
    logits = set(found.logits.values())
    assert len(logits) == 6
    assert place(found, replace(MACHINE, map_buffer_kib=0)).resident == logits
    everything = place(found, replace(MACHINE, map_buffer_kib=1 << 20)).resident
    assert everything == written - set(found.results)
    some = place(found, replace(MACHINE, map_buffer_kib=20)).resident
    assert logits < some < everything


def test_what_lies_on_chip_at_once_fits():
    found = workload()
    for kib in (8, 17, 33, 64):
        resident = place(found, replace(MACHINE, map_buffer_kib=kib)).resident
        resident = resident - set(found.logits.values())
        last = {name: number for number, step in enumerate(found.steps) for name in step.reads}
        for number, step in enumerate(found.steps):
            begun = {s.writes for s in found.steps[: number + 1]} & resident
            alive = {name for name in begun if last[name] >= number}
            if getattr(step, "in_place", False) and step.writes in resident and last.get(step.added) == number:
                alive.discard(step.added)  # its place is taken
            assert sum(np.prod(found.maps[name].shape) for name in alive) <= kib * 1024


def test_only_masked_maps_without_a_shortcut_are_compact():
    compact = place(workload(), MACHINE).compact
    assert compact == {f"layer{stage}.0.conv1" for stage in (1, 2, 3)}


def test_inputs_or_weights_are_read_again_whatever_costs_less():
    found = workload()
    tight = replace(MACHINE, map_buffer_kib=0, input_buffer_kib=1, weight_buffer_kib=1, sum_buffer_kib=16)
    sizes = {step.name: step for step in found.array_steps()}
    chosen = place(found, tight).passes
    assert {passes.weights_by_band for passes in chosen.values()} == {True, False}
    for name, passes in chosen.items():
        step = sizes[name]
        inputs = step.in_channels * step.source[0] * step.source[1]
        row = step.taps * step.in_channels // step.groups
        weights = row * step.out_channels
        if inputs <= 512 or weights <= 512:
            assert passes.inputs == 1
            assert not passes.weights_by_band
            continue
        rows_of_a_band = max(1, tight.sum_positions // step.out[1])
        column_blocks = -(-step.out_channels // 16)
        by_inputs = -(-column_blocks // max(1, 512 // (row * 16))) * inputs + weights
        by_bands = inputs + -(-step.out[0] // rows_of_a_band) * weights
        assert passes.weights_by_band == (by_bands < by_inputs)


def test_more_room_on_chip_never_moves_more():
    program = engine_of("dual")[0].program
    trace = trace_of(program, 3)
    moved = []
    for kib in (0, 4, 8, 16, 64):
        gated = simulate(program, trace, replace(MACHINE, map_buffer_kib=kib)).gated
        moved.append(sum(words.sum() for words in gated.words.values()))
    assert moved == sorted(moved, reverse=True)
    assert moved[0] > moved[-1]
