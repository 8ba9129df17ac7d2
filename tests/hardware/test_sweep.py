from tests.hardware.programs import engine_of, trace_of

from convgate.hardware import accelerator, simulate
from convgate.hardware.sweep import SWEPT, as_data, row_of, row_with_settings, sweep


def test_a_sweep_is_of_machines_simulated_one_by_one():
    program = engine_of("dual")[0].program
    trace, machine = trace_of(program, 3), accelerator("dgnet-ultra96")
    rows = [row_of(found) for found in sweep(program, trace, machine, (8, 16), (2, 64))]
    assert [(row["rows"], row["dram_bytes_per_cycle"]) for row in rows] == [(8, 2), (8, 64), (16, 2), (16, 64)]
    alone = row_of(simulate(program, trace, accelerator("dgnet-ultra96", dram_bytes_per_cycle=64)))
    assert rows[3] == alone
    assert rows[1]["gated_cycles"] < rows[0]["gated_cycles"]
    assert rows[1]["gated_memory_share"] < rows[0]["gated_memory_share"]


def test_a_sweep_tells_the_machine_without_what_is_swept():
    machine = accelerator("dgnet-ultra96", rows=4, word_bits=16)
    told = as_data(machine)
    assert (told["accelerator"], told["changed"], told["machine"]["word_bits"]) == (
        "dgnet-ultra96",
        {"word_bits": 16},
        16,
    )
    assert not {*told["machine"], *told["assumed"], *told["changed"]}.intersection(SWEPT)
    assert told["assumed"]["frequency_mhz"] == 200
    row = row_with_settings({"rows": 8}, machine, 3)
    assert (row["rows"], row["images"], row["changed"], row["energy"]) == (8, 3, "word_bits=16", "timeloop-45nm")
    assert "frequency_mhz 200" in row["assumed"]


def test_a_swept_machine_says_what_was_set():
    program = engine_of("dual")[0].program
    (found,) = sweep(program, trace_of(program, 1), accelerator("dgnet-ultra96"), (8,), (2,))
    assert found.machine.called == ("dgnet-ultra96 with rows=8, columns=8, sum_buffer_kib=64, dram_bytes_per_cycle=2")
