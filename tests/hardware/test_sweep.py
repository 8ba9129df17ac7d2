from tests.hardware.programs import engine_of, trace_of

from convgate.hardware import accelerator, simulate
from convgate.hardware.sweep import row_of, sweep


def test_a_sweep_is_of_machines_simulated_one_by_one():
    program = engine_of("dual")[0].program
    trace, machine = trace_of(program, 3), accelerator("dgnet-ultra96")
    rows = [row_of(found) for found in sweep(program, trace, machine, (8, 16), (2, 64))]
    assert [(row["rows"], row["dram_bytes_per_cycle"]) for row in rows] == [(8, 2), (8, 64), (16, 2), (16, 64)]
    alone = row_of(simulate(program, trace, accelerator("dgnet-ultra96", dram_bytes_per_cycle=64)))
    assert rows[3] == alone
    assert rows[1]["gated_cycles"] < rows[0]["gated_cycles"]
    assert rows[1]["gated_memory_share"] < rows[0]["gated_memory_share"]
