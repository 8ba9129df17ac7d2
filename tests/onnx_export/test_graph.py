"""Names, constants and outputs of a graph that is being built."""

import numpy as np
import pytest

pytest.importorskip("onnx")

from convgate.onnx_export.graph import Graph


def test_names_are_given_once():
    graph = Graph(["x"])
    assert [graph.name("x"), graph.name("y"), graph.name("x"), graph.name("y")] == ["x_1", "y", "x_2", "y_1"]


def test_equal_constants_are_one():
    graph = Graph([])
    first = graph.floats([1.0, 2.0], "a")
    assert graph.floats([1.0, 2.0], "b") == first
    others = [graph.floats([[1.0, 2.0]]), graph.integers([1, 2]), graph.floats([1.0, 3.0])]
    assert len({first, *others}) == len(graph.constants) == 4


def test_scalars_have_no_dimensions():
    graph = Graph([])
    graph.floats(0.5)
    graph.constant(np.zeros((), np.uint8))
    assert [list(constant.dims) for constant in graph.constants] == [[], []]


def test_entries_in_order_are_the_tensor_itself():
    graph = Graph(["x"])
    assert graph.picked("x", 1, [0, 1, 2], 3, "y") == "x"
    assert graph.picked("x", 1, [0, 1], 3, "y") == "y"


def test_outputs_are_named_without_a_node_where_that_can_be():
    graph = Graph(["x", "out", "again", "same"])
    y = graph.node("Relu", "x", name="y")
    graph.node("Neg", y, name="z")
    for tensor, name in ((y, "out"), (y, "again"), ("x", "same")):
        graph.output(tensor, name)
    found = [(node.op_type, list(node.input), list(node.output)) for node in graph.nodes()]
    assert found == [
        ("Relu", ["x"], ["out"]),
        ("Neg", ["out"], ["z"]),
        ("Identity", ["out"], ["again"]),
        ("Identity", ["x"], ["same"]),
    ]
