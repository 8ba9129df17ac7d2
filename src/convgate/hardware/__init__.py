"""Accelerators, simulated from real decisions.

`record` an engine's decisions, `simulate` what a machine makes of them, image by image: cycles by cause, traffic,
energy, for the gated network and for the same without its gates. Needs no PyTorch.
"""

from convgate.hardware.accelerator import Accelerator, accelerator, list_accelerators
from convgate.hardware.record import record
from convgate.hardware.report import Report, Simulation
from convgate.hardware.simulate import simulate
from convgate.hardware.trace import Trace, load_trace

__all__ = [
    "Accelerator",
    "Report",
    "Simulation",
    "Trace",
    "accelerator",
    "list_accelerators",
    "load_trace",
    "record",
    "simulate",
]
