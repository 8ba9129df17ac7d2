"""Which machines the RTL has a form for, and the parameters of its top, `cg_top`, for one."""

from typing import Any

from convgate.errors import InputError
from convgate.hardware.accelerator import Accelerator, require_accelerator

__all__ = ["require_built", "sizes", "top_parameters"]

_FIXED: dict[str, Any] = {
    "dataflow": "ws",
    "timing": "double_buffered",
    "packed": False,
    "word_bits": 8,
    "sum_bits": 32,
    "sum_latency_cycles": 3,
    "output_latency_cycles": 6,
    "decision_latency_cycles": 2,
    "index_latency_cycles": 2,
}
"""Fields that the sources are written for."""

_MOST = {"rows": 255, "columns": 255, "index_bits": 64}

_MASK_ENTRIES = 1024
"""Of a mask, by default: networks with larger ones set MASK_WORDS."""


def require_built(machine: Accelerator) -> None:
    """Raise `InputError` for a machine that the RTL has no form for, with each field that it cannot have."""
    require_accelerator(machine)
    own = {name: getattr(machine, name) for name in (*_FIXED, *_MOST)}
    wrong = [f"{name} is {own[name]}, and has to be {fixed}" for name, fixed in _FIXED.items() if own[name] != fixed]
    wrong += [f"{name} is {own[name]}, and may be {most} at most" for name, most in _MOST.items() if own[name] > most]
    if wrong:
        raise InputError(f"accelerator {machine.name}: the RTL is not written for it: {'; '.join(wrong)}")


def sizes(machine: Accelerator) -> dict[str, int]:
    """The array and the entries of its buffers, powers of two; that for outputs is as large as that for inputs.

    Raises `InputError` as `require_built` does, and for buffers that are too small for the array.
    """
    require_built(machine)
    each = {
        "INPUTS": machine.input_buffer_kib * 1024 // machine.rows,
        "WEIGHTS": machine.weight_buffer_kib * 1024 // machine.columns,
        "OUTPUTS": machine.input_buffer_kib * 1024 // machine.columns,
        "SUMS": machine.sum_positions,
    }
    if small := [name for name, entries in each.items() if entries < 2]:
        raise InputError(
            f"accelerator {machine.name}: its buffers have no room for two entries of {', '.join(small)}; give larger "
            "ones, with input_buffer_kib, weight_buffer_kib or sum_buffer_kib"
        )
    entries = {name: min(1 << 16, 1 << (number.bit_length() - 1)) for name, number in each.items()}
    return {"ROWS": machine.rows, "COLUMNS": machine.columns, "INDEX_BITS": machine.index_bits, **entries}


def top_parameters(machine: Accelerator) -> dict[str, int]:
    """The parameters of `cg_top` for a machine, with everything that decisions need: sums have two halves."""
    own = sizes(machine)
    words = 1 << (-(-_MASK_ENTRIES // machine.index_bits) - 1).bit_length()
    return {**own, "MASK_WORDS": words, "SUMS": min(1 << 16, 2 * own["SUMS"])}
