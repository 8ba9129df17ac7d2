"""Programs damaged: in memory, operation by operation; and in files, under digests that fit."""

import json
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from convgate.engine.file import _digest

JUNK = [None, True, -1, 2.5, "x", [], [1], {}, {"operation": "Conv"}, [[]], 1 << 70, 10**400]


def rewrite(saved: Path, change) -> Path:
    """The saved program with its JSON changed, and a digest that fits."""
    with safe_open(saved, framework="numpy") as file:
        data = json.loads(file.metadata()["convgate.program"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(data, arrays)
    text = json.dumps(data)
    path = saved.with_name("changed.cgm")
    save_file(arrays, path, metadata={"convgate.program": text, "digest": _digest(text, arrays)})
    return path


def put_anywhere(data: st.DataObject, place: dict | list, junk: list) -> None:
    """Put one of `junk` in the place of anything that nested dicts and lists hold."""
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(st.sampled_from(junk))


def operation(of, **changes):
    """The first operation of a type, changed."""

    def change(program):
        operations = list(program.operations)
        place = next(i for i, op in enumerate(operations) if type(op) is of)
        operations[place] = replace(operations[place], **changes)
        return replace(program, operations=tuple(operations))

    return change


def array(kind, field, edit):
    """An array of the first operation of a type, changed."""

    def change(program):
        name = getattr(next(op for op in program.operations if type(op) is kind), field)
        return replace(program, arrays={**program.arrays, name: edit(program.arrays[name].copy())})

    return change


def value(written_by, **changes):
    """What the first operation of a type writes, changed."""

    def change(program):
        name = next(op for op in program.operations if type(op) is written_by).output
        values = tuple(replace(v, **changes) if v.name == name else v for v in program.values)
        return replace(program, values=values)

    return change


def at(index, number):
    """An edit of an array: `number` at that place."""

    def edit(array):
        array.flat[index] = number
        return array

    return edit
