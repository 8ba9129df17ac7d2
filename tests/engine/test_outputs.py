"""Outputs by order and by name."""

import pickle

import numpy as np
import pytest

from convgate.engine.outputs import arrange, as_outputs

ARRAYS = tuple(np.full((2, 3), number, np.float32) for number in range(3))


def test_named_outputs_are_a_tuple_and_can_be_looked_up():
    outputs = as_outputs(arrange(ARRAYS, {"out": 1, "maps": (0, 2)}))
    assert [int(array[0, 0]) for array in outputs] == [1, 0, 2]
    assert outputs["out"] is outputs[0] is ARRAYS[1]
    assert list(outputs.keys()) == ["out", "maps"] == [name for name, _ in outputs.items()]
    assert next(iter(outputs.values())) is ARRAYS[1]
    assert outputs.get("out") is ARRAYS[1]
    assert outputs.get("aux") is None
    with pytest.raises(KeyError, match="aux"):
        outputs["aux"]
    again = pickle.loads(pickle.dumps(outputs))
    assert list(again.keys()) == ["out", "maps"]


def test_what_is_in_them_is_asked_by_name_or_by_the_array_itself():
    outputs = as_outputs(arrange(ARRAYS, {"out": 1, "maps": (0, 2)}))
    assert "out" in outputs
    assert "aux" not in outputs
    assert ARRAYS[2] in outputs
    assert ARRAYS[2].copy() not in outputs
