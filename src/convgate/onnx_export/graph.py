"""An ONNX graph as it is being built: nodes in order, equal constants kept once, names that nothing else has."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["BATCH", "IR_VERSION", "OPSET", "Graph"]

OPSET = 17
"""The oldest operators that have all that is needed, so that most runtimes read the files."""

IR_VERSION = 8
"""The version of the file format that belongs to that opset."""

BATCH = "N"
"""What the first dimension of all inputs and outputs is called: its size is not fixed."""


class Graph:
    """Nodes and constants of an ONNX graph. Tensors are known by name; they are [N, C, H, W] unless said otherwise.

    >>> graph = Graph(["images"])
    >>> graph.node("Relu", "images", name="y"), graph.node("Relu", "y", name="images")
    ('y', 'images_1')
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._nodes: list[Any] = []
        self._outputs: dict[str, str] = {}
        self.constants: list[Any] = []
        self._taken = set(taken)
        self._known: dict[tuple[Any, ...], str] = {}

    def name(self, wanted: str) -> str:
        """A name that nothing has: the one wanted, or with a number."""
        found, number = wanted, 0
        while found in self._taken:
            number += 1
            found = f"{wanted}_{number}"
        self._taken.add(found)
        return found

    def node(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Append a node with one output; returns that tensor's name: `name`, or one like it."""
        from onnx import helper

        output = self.name(name)
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def output(self, tensor: str, name: str) -> None:
        """Make a tensor known outside by a name that was taken for it before."""
        from onnx import helper

        written = any(tensor in node.output for node in self._nodes)
        if written and tensor not in self._outputs:
            self._outputs[tensor] = name
        else:  # an input, or what is an output already
            self._nodes.append(helper.make_node("Identity", [tensor], [name], name=name))

    def nodes(self) -> list[Any]:
        """The nodes in order; outputs have their names."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [self._outputs.get(name, name) for name in names]
        return self._nodes

    def cast(self, tensor: str, to: str, name: str) -> str:
        """A tensor in another of ONNX's types, e.g. "FLOAT"."""
        from onnx import TensorProto

        return self.node("Cast", tensor, to=getattr(TensorProto, to), name=name)

    def constant(self, array: np.ndarray, name: str = "constant") -> str:
        """The name of a constant of the array's type and shape; equal ones are one."""
        array = np.asarray(array, order="C")
        # A digest, as the bytes themselves would keep every weight twice.
        content = hashlib.sha1(array.tobytes() if array.ndim == 0 else array.data, usedforsecurity=False).digest()
        key = (array.dtype.str, array.shape, content)
        if key not in self._known:
            self._known[key] = self.own_constant(array, name)
        return self._known[key]

    def own_constant(self, array: np.ndarray, name: str) -> str:
        """The name of a constant that nothing else is given, though it be equal."""
        from onnx import numpy_helper

        own = self.name(name)
        self.constants.append(numpy_helper.from_array(array, own))
        return own

    def floats(self, values: Any, name: str = "constant") -> str:
        """The name of a float32 constant."""
        return self.constant(np.asarray(values, np.float32), name)

    def integers(self, values: Sequence[int] | np.ndarray, name: str = "integers") -> str:
        """The name of an int64 constant, as shapes, axes and indices are."""
        return self.constant(np.asarray(values, np.int64), name)

    def reshaped(self, tensor: str, shape: Sequence[int], name: str) -> str:
        """The elements of every sample in another shape, which is given without the samples; -1 is what is left."""
        return self.node("Reshape", tensor, self.integers((0, *shape)), name=name)

    def picked(self, tensor: str, axis: int, indices: np.ndarray | Sequence[int], size: int, name: str) -> str:
        """The entries of these numbers along an axis of that size; the tensor itself where these are all, in order."""
        indices = np.asarray(indices, np.int64)
        if np.array_equal(indices, np.arange(size)):
            return tensor
        return self.node("Gather", tensor, self.integers(indices), axis=axis, name=name)

    def shape_of_batch(self, of: str, shape: Sequence[int]) -> str:
        """An int64 tensor of the dimensions (samples, *shape), with as many samples as the tensor `of` has."""
        key = ("batch", of)
        if key not in self._known:
            self._known[key] = self.node("Shape", of, start=0, end=1, name="samples")
        return self.node("Concat", self._known[key], self.integers(shape), axis=0, name="shape")
