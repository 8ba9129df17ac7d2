import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from tests.hardware.programs import engine_of, images_of, masks_of, trace_of

from convgate import hardware
from convgate.errors import CheckpointError, InputError
from convgate.hardware.digest import _first, digest
from convgate.hardware.trace import _contents, joined, load_trace


@pytest.mark.parametrize("method", ["dual", "channel", "layer_skipping"])
def test_what_is_recorded_is_what_the_engine_decided(method, tmp_path):
    engine, _ = engine_of(method)
    images = images_of(engine.program, 5)
    trace = hardware.record(engine, (images[:3], images[3:]), labels=np.arange(5))
    trace.save(tmp_path / "some.cgt")
    loaded = load_trace(tmp_path / "some.cgt")
    decided = engine.run(images).decisions
    assert loaded.images == 5
    assert loaded.labels.tolist() == [0, 1, 2, 3, 4]
    for name, decision in decided.items():
        assert (loaded.mask(name) == decision.mask).all()
        assert (loaded.mask(name, 2, 4) == decision.mask[2:4]).all()
    loaded.check(engine.program)


def test_a_trace_belongs_to_the_network_and_not_to_its_file(tmp_path):
    engine, _ = engine_of("dual")
    engine.save(tmp_path / "net.cgm")
    again = hardware.record(__import__("convgate").engine.load(tmp_path / "net.cgm"), images_of(engine.program, 1))
    again.check(engine.program)
    other, _ = engine_of("dual_by_groups")
    with pytest.raises(InputError, match="another network"):
        again.check(other.program)
    assert digest(engine.program) != digest(other.program)


def test_other_sizes_of_images_are_recorded_too():
    engine, _ = engine_of("dual")
    images = np.random.default_rng(0).standard_normal((2, 3, 48, 40)).astype(np.float32)
    trace = hardware.record(engine, images)
    assert trace.size == (48, 40)
    sized = trace.check(engine.program)
    assert sized.value(sized.inputs[0]).shape == (3, 48, 40)


def test_masks_must_be_those_of_the_gates():
    program = engine_of("dual")[0].program
    masks = masks_of(program, 2)
    name = program.gates[0].name
    with pytest.raises(InputError, match="zeros and ones"):
        hardware.Trace.of(program, masks | {name: masks[name] + 1})
    with pytest.raises(InputError, match="all gates"):
        hardware.Trace.of(program, {name: masks[name]})
    with pytest.raises(InputError, match="no images"):
        hardware.record(engine_of("dual")[0], [])
    with pytest.raises(InputError, match=r"shape \[\]"):
        hardware.record(engine_of("dual")[0], np.zeros(()))
    with pytest.raises(InputError, match="labels"):
        hardware.record(engine_of("dual")[0], images_of(program, 2), labels=np.zeros(3))


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "some.cgt"
    trace_of(engine_of("dual")[0].program, 3).save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
        with pytest.raises(CheckpointError):
            load_trace(path)
        path.write_bytes(whole[:place])
        with pytest.raises(CheckpointError):
            load_trace(path)
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a trace"):
        load_trace(path)
    with pytest.raises(CheckpointError, match="not there"):
        load_trace(tmp_path / "none.cgt")


@pytest.mark.parametrize(
    ("key", "change", "match"),
    [
        ("version", lambda _: "3", "format 3"),
        ("images", lambda _: "-1", "no trace"),
        ("size", lambda _: "[0, 3]", "not a size"),
        ("gates", lambda text: json.dumps(json.loads(text)[:-1]), "do not agree"),
        ("gates", lambda text: json.dumps([{**g, "shape": [9, 9, 9]} for g in json.loads(text)]), "shape"),
        ("gates", lambda text: "[" * 5000, "no trace"),
    ],
)
def test_files_that_say_nonsense_are_refused(key, change, match, tmp_path):
    path = tmp_path / "some.cgt"
    trace_of(engine_of("dual")[0].program, 3).save(path)
    _rewrite(path, lambda text, arrays: text.update({key: change(text[key])}))
    with pytest.raises(CheckpointError, match=match):
        load_trace(path)


def test_traces_of_version_1_are_read_and_compared_by_their_own_rule(tmp_path):
    program, path = engine_of("dual")[0].program, tmp_path / "some.cgt"
    first = replace(trace_of(program, 3), program=_first(program))
    first.save(path)
    _rewrite(path, lambda text, arrays: text.update(version="1"))
    load_trace(path).check(program)
    with pytest.raises(InputError, match="another network"):
        load_trace(path).check(engine_of("dual_by_groups")[0].program)


def test_bits_after_the_last_entry_are_refused(tmp_path):
    path = tmp_path / "some.cgt"
    trace_of(engine_of("layer_skipping")[0].program, 3).save(path)

    def set_all(text, arrays):
        for name in arrays:
            arrays[name] = np.full_like(arrays[name], 255)

    _rewrite(path, set_all)
    with pytest.raises(CheckpointError, match="after its last entry"):
        load_trace(path)


def _rewrite(path, change):
    with safe_open(path, framework="numpy") as file:
        text = {key: value for key, value in file.metadata().items() if key != "digest"}
        arrays = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
    change(text, arrays)
    save_file(arrays, path, metadata=text | {"digest": _contents(text, arrays)})


def test_no_traces_are_not_joined():
    with pytest.raises(InputError, match="at least one"):
        joined(iter(()))
