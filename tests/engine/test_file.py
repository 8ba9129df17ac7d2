"""Programs as files: round trips, damage of every kind, and a process without torch."""

import contextlib
import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_as_torch
from tests.engine.damage import JUNK, put_anywhere, rewrite
from torch import nn

import convgate
import convgate.engine
from convgate.engine.file import VERSION, _digest, _read, load_program
from convgate.errors import CheckpointError, ConvgateError
from convgate.models import create
from convgate.preparation import Preparation

METHODS = {"dual": convgate.DualGating(), "partial": convgate.ChannelGating(form="paper", shuffle=True, group=2)}


@pytest.fixture(scope="module", params=METHODS)
def engine(request: pytest.FixtureRequest) -> convgate.engine.Engine:
    torch.manual_seed(0)
    model = create("cifar_resnet8", width=4)
    network = convgate.gate(model, METHODS[request.param], example=torch.zeros(1, 3, 16, 16)).eval()
    return convgate.compile(network)


@pytest.fixture(scope="module")
def saved(engine: convgate.engine.Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.cgm"
    engine.save(path)
    return path


IMAGES = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)


def test_round_trip(engine: convgate.engine.Engine, saved: Path) -> None:
    again = convgate.engine.load(saved, threads=1)
    np.testing.assert_allclose(again(IMAGES), engine(IMAGES), rtol=1e-5, atol=1e-6)
    assert again.program.operations == engine.program.operations
    assert again.describe() == engine.describe()
    assert again.program.returns == engine.program.returns


def test_runs_in_a_process_without_torch(engine: convgate.engine.Engine, saved: Path) -> None:
    np.save(saved.parent / "images.npy", IMAGES)
    code = f"""
import sys
sys.modules["torch"] = None  # importing it fails
import numpy as np, convgate.engine
engine = convgate.engine.load({str(saved)!r})
np.save({str(saved.parent / "out.npy")!r}, engine(np.load({str(saved.parent / "images.npy")!r})))
heavy = {{"torchvision", "timm", "lightning", "matplotlib", "sklearn", "rich"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
    np.testing.assert_allclose(np.load(saved.parent / "out.npy"), engine(IMAGES), rtol=1e-5, atol=1e-6)


@settings(max_examples=300, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_damaged_byte_is_noticed(saved: Path, position: float, flip: int) -> None:
    data = bytearray(saved.read_bytes())
    data[int(position * len(data))] ^= flip
    damaged = saved.with_name("damaged.cgm")
    damaged.write_bytes(data)
    with pytest.raises(CheckpointError):
        load_program(damaged)


@settings(max_examples=100, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_noticed(saved: Path, share: float) -> None:
    data = saved.read_bytes()
    cut = saved.with_name("cut.cgm")
    cut.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError):
        load_program(cut)


def test_elements_that_numpy_has_no_type_for(tmp_path: Path) -> None:
    path = tmp_path / "eighths.cgm"
    save_as_torch({"a": torch.zeros(4, dtype=torch.float8_e4m3fn)}, path, metadata={"convgate.program": "{}"})
    with pytest.raises(CheckpointError, match=r"eighths\.cgm is damaged, or no \.cgm file"):
        load_program(path)


PREPARATION = Preparation((16, 16), 18)


def _operation(kind: str):
    return lambda data: next(op for op in data["operations"] if op["operation"] == kind)


CHANGES = {
    "newer": (
        lambda d, a: d.update(version=VERSION + 1),
        f"format {VERSION + 1}; this convgate reads formats up to {VERSION}",
    ),
    "unversioned": (lambda d, a: d.pop("version"), "version"),
    "unknown operation": (lambda d, a: d["operations"][0].update(operation="Fft"), "unknown kind 'Fft'"),
    "unknown field": (lambda d, a: d["operations"][0].update(colour=1), "no field colour"),
    "wrong type": (lambda d, a: _operation("Conv")(d).update(groups="two"), "groups is 'two'"),
    "a bool for a number": (lambda d, a: _operation("Conv")(d).update(groups=True), "groups is True"),
    "a number beyond all floats": (
        lambda d, a: d["operations"][0].update(activation={"name": "leaky_relu", "parameters": [10**400]}),
        "too large",
    ),
    "a mean beyond all floats": (
        lambda d, a: d.update(preparation={**PREPARATION.as_data(), "mean": [10**400] * 3}),
        "mean",
    ),
    "dangling input": (lambda d, a: d["operations"][0].update(inputs=["nothing"]), "reads 'nothing'"),
    "missing array": (lambda d, a: a.pop(_operation("Conv")(d)["weight"]), "missing"),
    "wrong array": (
        lambda d, a: a.update({_operation("Conv")(d)["weight"]: np.zeros((1, 1, 1, 1), np.float32)}),
        "has shape",
    ),
    "half precision": (
        lambda d, a: a.update({(n := _operation("Conv")(d)["weight"]): a[n].astype(np.float16)}),
        "float16",
    ),
    "no stride": (lambda d, a: _operation("Conv")(d).update(stride=[0, 1]), "out of range"),
    "far padding": (lambda d, a: _operation("Conv")(d).update(padding=[1 << 40, 0, 0, 0]), "out of range"),
    "undecided gate": (
        lambda d, a: d.update(operations=[o for o in d["operations"] if o["operation"] != "Decide"]),
        "decide",
    ),
    "huge value": (lambda d, a: d["values"][0].update(height=1 << 30), "out of range|too large"),
    "no outputs": (lambda d, a: d.update(outputs=[]), "no inputs or no outputs"),
    "not a mapping": (lambda d, a: d.update(operations=[[1]]), "no program that can be run"),
}


def test_gates_of_version_1(engine: convgate.engine.Engine, saved: Path) -> None:
    """There, gates had rows and columns, none was of activations, and all decisions were as they are by default."""
    if any(gate.kind == "activation" for gate in engine.program.gates):
        pytest.skip("version 1 had no such gates")

    def change(data, arrays) -> None:
        data["version"] = 1
        for gate in data["gates"]:
            units, rows, columns = gate.pop("shape")
            gate |= {"rows": max(units, rows), "columns": columns}
        for operation in data["operations"]:
            if operation["operation"] == "Decide":
                for key in ("scale", "shift", "strict"):
                    del operation[key]
        activations_of_version_2(data, arrays)

    assert load_program(rewrite(saved, change)).gates == engine.program.gates


def activations_of_version_2(data, arrays) -> None:
    """They were names."""
    for operation in data["operations"]:
        if "activation" in operation:
            operation["activation"] = operation["activation"]["name"]


def test_programs_of_version_2(engine: convgate.engine.Engine, saved: Path) -> None:
    def change(data, arrays) -> None:
        data["version"] = 2
        activations_of_version_2(data, arrays)

    assert load_program(rewrite(saved, change)).operations == engine.program.operations


@pytest.mark.parametrize("change", CHANGES)
def test_programs_that_do_not_hold_together(saved: Path, change: str) -> None:
    edit, message = CHANGES[change]
    with pytest.raises(CheckpointError, match=message):
        load_program(rewrite(saved, edit))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_anything_in_place_of_anything_is_refused_or_run(saved: Path, data: st.DataObject) -> None:
    """Malformed JSON under a digest that fits: an error of ours, or a program that holds together."""

    with contextlib.suppress(CheckpointError):
        load_program(rewrite(saved, lambda program, arrays: put_anywhere(data, program, JUNK)))


DATA = Path(__file__).parents[1] / "data" / "cgm"


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_older_versions_give_what_they_gave(version: int) -> None:
    expected = np.load(DATA / "expected.npz")
    run = convgate.engine.load(DATA / f"version{version}.cgm", threads=1).run(expected["images"])
    np.testing.assert_allclose(run.outputs[0], expected["outputs"], rtol=1e-5, atol=1e-6)
    assert run.macs.tolist() == expected["macs"].tolist()
    for name, decision in run.decisions.items():
        assert (decision.mask == expected[f"mask {name}"]).all()


class Named(nn.Module):
    """Outputs in all that a network may return them in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> dict:
        x = self.conv(x)
        pooled = x.mean((2, 3), keepdim=True)
        vector = pooled.flatten(1)
        return OrderedDict(out=self.last(vector), maps=[x, (pooled, None)], features=vector)


def test_names_of_outputs_are_kept(tmp_path: Path) -> None:
    images = torch.randn(2, 3, 8, 8)
    model = Named().eval()
    convgate.compile(model, images, threads=1).save(tmp_path / "named.cgm")
    engine = convgate.engine.load(tmp_path / "named.cgm", threads=1)
    with torch.no_grad():
        out, maps, features = model(images).values()
    actual = engine(images.numpy())
    assert list(actual) == ["out", "maps", "features"]
    assert actual["maps"][1][1] is None
    for ours, theirs in (
        (actual["out"], out),
        (actual["maps"][0], maps[0]),
        (actual["maps"][1][0], maps[1][0]),
        (actual["features"], features),
    ):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)
    outputs = engine.run(images.numpy()).outputs
    assert len(outputs) == 4
    assert (outputs["out"] == outputs[0]).all()


def test_a_small_file_that_asks_for_much_memory_is_refused(saved: Path) -> None:
    def change(program, arrays) -> None:
        for operation in program["operations"]:
            if operation["operation"] == "Conv":
                operation["stride"] = [4001 + arrays[operation["weight"]].shape[2]] * 2
                operation["padding"] = [2000] * 4
                value = next(v for v in program["values"] if v["name"] == operation["output"])
                value.update(height=1, width=1)

    with pytest.raises(CheckpointError, match="paddings of"):
        load_program(rewrite(saved, change))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_changed_numbers_are_refused_or_run(saved: Path, data: st.DataObject) -> None:
    """Whatever number stands in a file with a digest that fits: an error of ours, or a program that runs."""

    def change(program, arrays) -> None:
        operation = data.draw(st.sampled_from(program["operations"]))
        places = [(operation, key) for key, value in operation.items() if isinstance(value, int)]
        places += [
            (v, i) for v in operation.values() if isinstance(v, list) for i, e in enumerate(v) if isinstance(e, int)
        ]
        value = data.draw(st.sampled_from(program["values"]))
        places += [(value, key) for key in ("channels", "height", "width")]
        where, key = data.draw(st.sampled_from(places))
        where[key] = data.draw(st.sampled_from([0, 1, 2, 3, 7, 64, -1, 1 << 20, 1 << 31, 1 << 40, -(1 << 40)]))

    path = rewrite(saved, change)
    try:
        changed = convgate.engine.load(path, threads=1)
    except ConvgateError:
        return
    shapes = [changed.program.value(name) for name in changed.program.inputs]
    if all(v.channels * v.height * v.width < 1 << 20 for v in shapes):
        changed(*(np.zeros((1, v.channels, v.height, v.width), np.float32) for v in shapes))


def test_files_of_others(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not there"):
        convgate.engine.load(tmp_path / "absent.cgm")
    (tmp_path / "text.cgm").write_text("not a program")
    with pytest.raises(CheckpointError, match=r"damaged, or no \.cgm file"):
        convgate.engine.load(tmp_path / "text.cgm")
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "arrays.cgm")
    with pytest.raises(CheckpointError, match="arrays, but no program"):
        convgate.engine.load(tmp_path / "arrays.cgm")


def _prepared(classes: int) -> convgate.engine.Engine:
    network = convgate.gate(create("cifar_resnet8", width=4), METHODS["dual"], example=torch.zeros(1, 3, 16, 16)).eval()
    network.preparation = convgate.Preparation((16, 16), 18, classes=tuple(map(str, range(classes))))
    return convgate.compile(network)


def test_how_images_are_prepared_travels(tmp_path: Path, saved: Path) -> None:
    engine = _prepared(10)
    path = tmp_path / "prepared.cgm"
    engine.save(path)
    again = convgate.engine.load(path)
    assert again.preparation == engine.preparation is not None
    assert again.preparation.read([np.zeros((20, 30, 3), np.uint8)]).shape == (1, 3, 16, 16)
    assert convgate.engine.load(saved).preparation is None


def test_a_preparation_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConvgateError, match="more or fewer classes"):
        _prepared(9)


@pytest.mark.parametrize(
    "preparation", [None, {}, [], {"size": [1, 1]}, {"size": [16, 16], "resize": 10**9, "interpolation": "bilinear"}]
)
def test_a_damaged_preparation_is_refused(tmp_path: Path, preparation: object) -> None:
    path = tmp_path / "prepared.cgm"
    _prepared(10).save(path)
    text, _, arrays = _read(path)
    data = json.loads(text)
    if isinstance(preparation, dict) and len(preparation) > 1:
        preparation = data["preparation"] | preparation
    text = json.dumps(data | {"preparation": preparation})
    save_file(arrays, path, metadata={"convgate.program": text, "digest": _digest(text, arrays)})
    with pytest.raises(CheckpointError, match="preparation"):
        convgate.engine.load(path)
