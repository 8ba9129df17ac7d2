"""Where an operation is written: its program, the graph, and what the tensors of values and gates are called."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from convgate.engine.precision import from_bits, to_bits
from convgate.engine.program import Element, Program, Value
from convgate.onnx_export.graph import Graph

__all__ = ["Writer"]


class Writer:
    """A graph with what is known of it so far.

    Operations read and write float tensors. A value of 8-bit integers is stored by a QuantizeLinear and read through a
    DequantizeLinear, both with zero point 0. Partial sums, int32 in the engine, are whole numbers in float32.

    Attributes:
        program: what is written.
        graph: what it is written to.
        closed: per value the channel gates that leave zeros in it, see `zeros.closed_channels`.
        gates: the program's gates by name.
        opened: per gate that is decided the bool tensor [N, units, rows, columns] that says where it is open.

    """

    def __init__(
        self, program: Program, graph: Graph, inputs: Sequence[str], closed: Mapping[str, frozenset[str]]
    ) -> None:
        self.program, self.graph, self.closed = program, graph, closed
        self.gates = {gate.name: gate for gate in program.gates}
        self.opened: dict[str, str] = {}
        self._first = inputs[0]
        self._floats = dict(zip(program.inputs, inputs, strict=True))
        self._stored: dict[str, str] = {}
        self._once: dict[tuple[object, ...], str] = {}

    def once(self, key: tuple[object, ...], make: Callable[[], str]) -> str:
        """The tensor that `make` writes, which is written when it is first asked for."""
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]

    def for_each_sample(self, array: np.ndarray, name: str) -> str:
        """A constant [C, H, W], as float32, once for each sample of the batch."""
        shape = self.graph.shape_of_batch(self._first, array.shape)
        return self.graph.node("Expand", self.graph.floats(array), shape, name=name)

    def sized(self, height: int, width: int, channels: int) -> str:
        """An int64 tensor: samples, channels, height, width."""
        return self.graph.shape_of_batch(self._first, (channels, height, width))

    def read(self, name: str) -> str:
        """The float tensor of a value; integers times their scale."""
        if name not in self._floats:
            value = self.program.value(name)
            self._floats[name] = self.dequantised(self._stored[name], value.element, value.scale, f"{name}.float")
        return self._floats[name]

    def scaled(self, name: str, scale: float) -> str:
        """The integers of a value of 8 bits times another scale than its own, as floats."""
        value = self.program.value(name)
        if np.float32(scale) == np.float32(value.scale):
            return self.read(name)
        return self.dequantised(self._stored[name], value.element, scale, f"{name}.scaled")

    def write(self, name: str, tensor: str) -> None:
        """Say which float tensor holds a value; of 8-bit integers it is quantised."""
        value = self.program.value(name)
        if value.element.is_byte:
            self._stored[name] = self.quantised(tensor, value, name)
        else:
            self._floats[name] = tensor

    def quantised(self, tensor: str, value: Value, name: str) -> str:
        """A float tensor as 8-bit integers of the value's type and scale."""
        zero = self._zero(value.element)
        return self.graph.node("QuantizeLinear", tensor, self.graph.floats(value.scale, "scale"), zero, name=name)

    def dequantised(self, tensor: str, element: Element, scale: float, name: str) -> str:
        """8-bit integers times a scale."""
        return self.graph.node(
            "DequantizeLinear", tensor, self.graph.floats(scale, "scale"), self._zero(element), name=name
        )

    def dequantised_array(self, array: np.ndarray, scale: np.ndarray, name: str) -> str:
        """An array of integers, [out, ..], times float32 scales [out]: a DequantizeLinear of a constant.

        Integers and zeros are this node's alone: ONNX Runtime's option against saturation (docs/design/onnx.md)
        replaces both by name for each node that reads them, and fails at the second (1.32).
        """
        stored, scales = self.graph.own_constant(array, name), self.graph.floats(scale, f"{name}.scale")
        zeros = self.graph.own_constant(np.zeros(len(array), array.dtype), f"{name}.zeros")
        return self.graph.node("DequantizeLinear", stored, scales, zeros, axis=0, name=f"{name}.float")

    def array(self, name: str, *, rounded: bool = False) -> np.ndarray:
        """An array of the program; what is kept in bfloat16, or is `rounded` to it when it is read, as float32."""
        array = self.program.arrays[name]
        if array.dtype == np.uint16:
            return from_bits(array)
        return from_bits(to_bits(array)).reshape(array.shape) if rounded else array

    def per_channel(self, name: str) -> str:
        """An array [channels] as a constant [channels, 1, 1], which spreads over maps."""
        return self.graph.floats(self.array(name).reshape(-1, 1, 1), name)

    def _zero(self, element: Element) -> str:
        return self.graph.constant(np.zeros((), np.dtype(element.value)), f"zero.{element}")
