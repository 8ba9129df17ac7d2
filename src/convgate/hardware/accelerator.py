"""An accelerator: a systolic array with its buffers, its memory and its index module, as plain data from YAML.

Every field has its unit in its name. What is not known of a published machine is listed in `assumed`, and said wherever
results are shown.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from convgate.errors import InputError
from convgate.hardware.named import list_named, read_named

__all__ = ["Accelerator", "accelerator", "list_accelerators", "require_accelerator"]

Dataflow = Literal["ws", "os", "is"]
Timing = Literal["double_buffered", "serial", "overlapped"]

_MOST = 1 << 20
"""Of every field that is a whole number: far above any machine."""


@dataclass(frozen=True)
class Accelerator:
    """A machine.

    >>> machine = accelerator("dgnet-ultra96", columns=32)
    >>> machine.rows, machine.columns, machine.peak_macs_per_cycle
    (16, 32, 512)

    Args:
        name: what it is called.
        source: where its known figures come from.
        rows: of the array: input channels.
        columns: of the array: output channels.
        dataflow: what stays in the array: weights ("ws"), sums ("os") or inputs ("is"); the last two only serially.
        timing: "double_buffered" (ours), "serial" (SCALE-Sim 2 and 3) or "overlapped" (SCALE-Sim 1). The last two know
            neither memory nor decisions nor an index module.
        packed: whether a kernel's taps lie side by side in the array's rows, instead of one after another.
        frequency_mhz: of the clock; cycles become milliseconds by it.
        word_bits: of an activation and of a weight.
        sum_bits: of a sum.
        input_buffer_kib: for maps that stream in; two halves.
        weight_buffer_kib: for weights; two halves.
        sum_buffer_kib: for sums; two halves.
        map_buffer_kib: for maps that stay on chip between steps; 0 for none, as SCALE-Sim has it.
        dram_bytes_per_cycle: what the memory's bus moves.
        dram_burst_bytes: of one access; closed parts of one are moved all the same.
        dram_latency_cycles: before the first byte, if the bus rested.
        sum_latency_cycles: before a sum that was written can be added to.
        output_latency_cycles: from the array to the output buffer: scale, activation, saturation.
        decision_latency_cycles: from a sum to the decision on it.
        index_latency_cycles: from a decision to the first index.
        index_bits: of a mask that the index module looks at in one cycle.
        tap_planes: whether a gate head's convolution with few outputs is formed as one product per tap.
        vector_lanes: elements per cycle of what does not run on the array.
        pool_on_write: whether averages over a map are summed while it is written.
        energy: a table of energies, see `convgate.hardware.energy`.
        assumed: the fields that are guesses.
        changed: the fields that whoever asked for the machine gave, instead of those that it has by its name.

    """

    name: str
    source: str
    rows: int
    columns: int
    dataflow: Dataflow = "ws"
    timing: Timing = "double_buffered"
    packed: bool = False
    frequency_mhz: float = 200.0
    word_bits: int = 8
    sum_bits: int = 32
    input_buffer_kib: int = 128
    weight_buffer_kib: int = 128
    sum_buffer_kib: int = 128
    map_buffer_kib: int = 256
    dram_bytes_per_cycle: int = 8
    dram_burst_bytes: int = 64
    dram_latency_cycles: int = 60
    sum_latency_cycles: int = 3
    output_latency_cycles: int = 6
    decision_latency_cycles: int = 2
    index_latency_cycles: int = 2
    index_bits: int = 64
    tap_planes: bool = True
    vector_lanes: int = 16
    pool_on_write: bool = True
    energy: str = "timeloop-45nm"
    assumed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, hint in typing.get_type_hints(type(self)).items():
            _check(self.name, field, getattr(self, field), hint)
        if self.dataflow != "ws" and self.timing != "serial":
            raise InputError(
                f"accelerator {self.name}: dataflow {self.dataflow} with {self.timing} timing; only serial timing "
                "knows another dataflow than ws"
            )
        if unknown := set(self.assumed) - {field.name for field in dataclasses.fields(self)}:
            raise InputError(f"accelerator {self.name}: assumed names no field: {', '.join(sorted(unknown))}")
        for field in ("word_bits", "sum_bits"):
            if getattr(self, field) % 8:
                raise InputError(f"accelerator {self.name}: {field} is {getattr(self, field)}; it is a multiple of 8")
        self._require_room("sum_buffer_kib", self.columns * self.sum_bits // 8, f"a row of {self.columns} sums")
        if self.timing == "double_buffered":  # the others know no buffers' sizes
            weights = f"the array's {self.rows}x{self.columns} weights"
            self._require_room("weight_buffer_kib", self.peak_macs_per_cycle * self.word_bytes, weights)

    def _require_room(self, buffer: str, needed: int, what: str) -> None:
        """Raise `InputError` if half of a buffer holds fewer bytes than are needed at once."""
        if (least := -(-needed // 512)) > getattr(self, buffer):
            remedy = (
                f"at least {least} is needed, or a smaller array" if least <= _MOST else "a smaller array is needed"
            )
            raise InputError(
                f"accelerator {self.name}: {buffer} is {getattr(self, buffer)}, and half of it has to hold {what}: "
                f"{remedy}"
            )

    @property
    def peak_macs_per_cycle(self) -> int:
        """Multipliers."""
        return self.rows * self.columns

    @property
    def word_bytes(self) -> int:
        """Of an activation or a weight."""
        return self.word_bits // 8

    @property
    def sum_positions(self) -> int:
        """Positions of which half of the sum buffer holds the sums."""
        return self.sum_buffer_kib * 1024 // 2 // (self.columns * self.sum_bits // 8)

    @property
    def latencies(self) -> tuple[int, int, int]:
        """Of the sums' memory, of the way out, and of a decision."""
        return self.sum_latency_cycles, self.output_latency_cycles, self.decision_latency_cycles

    def assumptions(self) -> str:
        """What is assumed, in words; "" if nothing is."""
        return ", ".join(f"{name} {getattr(self, name)}" for name in self.assumed)

    def changes(self) -> str:
        """What was changed, in words; "" if nothing was."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.changed)

    @property
    def called(self) -> str:
        """Its name, and what was changed: what tells it from other machines."""
        return f"{self.name} with {self.changes()}" if self.changed else self.name

    def with_fields(self, **changes: Any) -> "Accelerator":
        """The machine with some fields changed, which are guesses no more."""
        assumed = tuple(name for name in self.assumed if name not in changes)
        changed = tuple(dict.fromkeys((*self.changed, *changes)))
        return dataclasses.replace(self, **changes, assumed=assumed, changed=changed)

    def as_data(self) -> dict[str, Any]:
        """Its name and source, the fields that were changed and assumed, and all of them; units are in their names."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        return {
            "name": self.name,
            "source": self.source,
            "changed": {name: getattr(self, name) for name in self.changed},
            "assumed": {name: getattr(self, name) for name in self.assumed},
            "fields": fields,
        }


_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(Accelerator)
    if field.name not in {"name", "source", "assumed", "changed"}
)
"""What is of the machine itself."""


def list_accelerators() -> tuple[str, ...]:
    """The machines that come with convgate.

    >>> list_accelerators()
    ('cgnet-asic', 'dgnet-ultra96', 'edge-8', 'scalesim-32', 'tpu-256')
    """
    return list_named("presets")


def accelerator(name: str | Path, /, **changes: Any) -> Accelerator:
    """A machine by name, or from a YAML file, with some fields changed.

    Raises `InputError` for an unknown name, and for fields that are unknown or of the wrong kind.
    """
    data = read_named(name, "presets", "accelerator")
    if not isinstance(data, Mapping):
        raise InputError(f"{name} is not a list of fields and their values")
    given, data = data, {**data, **changes}
    known = {"name", "source", "assumed", *_FIELDS}
    if unknown := sorted(set(map(str, data)) - known):
        raise InputError(f"{name}: an accelerator has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    if missing := sorted({"name", "source", "rows", "columns"} - set(data)):
        raise InputError(f"{name}: an accelerator needs the field {', '.join(missing)}")
    if isinstance(assumed := data.get("assumed", []), list):
        # A default is a guess, whoever wrote the file; what the caller sets is no guess of ours.
        guessed = (*assumed, *(field for field in _FIELDS if field not in given))
        data["assumed"] = tuple(field for field in dict.fromkeys(guessed) if field not in changes)
    return Accelerator(**data, changed=tuple(field for field in changes if field in _FIELDS))


def require_accelerator(machine: object) -> None:
    """Raise `InputError` for what is not an `Accelerator`, such as its name."""
    if not isinstance(machine, Accelerator):
        raise InputError(f"the machine is {machine!r}; give an Accelerator: convgate.hardware.accelerator(NAME)")


def _check(machine: str, field: str, value: Any, hint: Any) -> None:
    what = f"accelerator {machine}: {field} is {value!r}"
    if typing.get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise InputError(f"{what}; it is one of {', '.join(get_args(hint))}")
    elif hint is int:
        least = 0 if "latency" in field or field == "map_buffer_kib" else 1
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
            raise InputError(f"{what}; it is a whole number from {least} to {_MOST}")
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise InputError(f"{what}; it is a finite number above 0")
    elif hint is bool and not isinstance(value, bool):
        raise InputError(f"{what}; it is true or false")
    elif hint is str and not isinstance(value, str):
        raise InputError(f"{what}; it is a text")
    elif typing.get_origin(hint) is tuple and not (
        isinstance(value, tuple) and all(isinstance(entry, str) for entry in value)
    ):
        raise InputError(f"{what}; it is a list of fields")
