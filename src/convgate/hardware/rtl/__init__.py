"""The accelerator in SystemVerilog, its simulation by Verilator, its check against the simulator.

The sources lie in `sv/`. `write_sources` copies them, `Model` runs steps of a network on them, `verify` compares a
network with the integer reference and with the simulated cycles.
"""

from convgate.hardware.rtl.model import Model
from convgate.hardware.rtl.sources import counters, registers, write_sources
from convgate.hardware.rtl.verify import verify

__all__ = ["Model", "counters", "registers", "verify", "write_sources"]
