import copy
import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import convgate
from convgate import DualGating, GlobalGater, gate, load, save
from convgate.checkpoint import require_gated
from convgate.errors import CheckpointError, InputError
from convgate.models import create
from convgate.preparation import Preparation


def _own():
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), OwnBlock(5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return model


class OwnBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(torch.relu(self.conv1(x)))


MODELS = {
    "torchvision": (lambda: create("resnet18", num_classes=7), 64),
    "timm": (lambda: create("timm/mobilenetv3_large_100", num_classes=5), 64),
    "cifar": (lambda: create("cifar_resnet8", width=4, shortcut="A"), 16),
    "own": (_own, 16),
}


@pytest.fixture(scope="module")
def saved_once(make_small, tmp_path_factory):
    net, x = make_small()
    path = tmp_path_factory.mktemp("saved") / "net.safetensors"
    save(net, path)
    return net, x, path.read_bytes()


@pytest.fixture
def saved(saved_once, tmp_path):
    """A network, which stays as it is, images, and a file of it that may be damaged."""
    net, x, data = saved_once
    path = tmp_path / "net.safetensors"
    path.write_bytes(data)
    return net, x, path


@pytest.mark.parametrize("kind", list(MODELS))
@torch.no_grad()
def test_round_trip(kind, tmp_path, scatter, randomise, monkeypatch):
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    make, size = MODELS[kind]
    torch.manual_seed(0)
    x = torch.randn(2, 3, size, size)
    model = randomise(make(), x)
    method = DualGating(budget=0.4, tile=dict.fromkeys((32, 16, 8, 4, 2), 2), group=3, masks="equal", bias=1.0)
    net = scatter(gate(model, method, x))
    path = tmp_path / "folder" / "net.safetensors"
    save(net, path)
    again = load(path, model=model if kind == "own" else None)
    assert not again.training
    assert again.plan.method == net.plan.method
    assert str(again.plan) == str(net.plan)
    (y, d), (y2, d2) = net.decide(x), again.decide(x)
    assert torch.equal(y, y2)
    assert list(d) == list(d2)
    assert all(torch.equal(d[k].mask, d2[k].mask) and torch.equal(d[k].logits, d2[k].logits) for k in d)
    assert torch.equal(net.cost(d).macs, again.cost(d2).macs)
    assert [p.name for p in path.parent.iterdir()] == ["net.safetensors"]


def test_loading_leaves_the_callers_random_numbers_alone(saved):
    _, _, path = saved
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load(path)
    assert torch.equal(torch.rand(1), expected)


def refuse(*args, **kwargs):
    raise AssertionError("a pickle was opened")


def test_saving_takes_a_gated_network_only(tmp_path):
    with pytest.raises(InputError, match="ResNet"):
        save(create("cifar_resnet8"), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file_whole(saved, monkeypatch):
    net, _, path = saved
    before = path.read_bytes()

    def fail(tensors, name, metadata):
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(net, path)
    with pytest.raises(OSError, match="disk full"):
        save(net, path.parent / "new")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_shifted_offset_is_saved(small, tmp_path):
    net, x = small
    path = tmp_path / "net.safetensors"
    for _, g in net.gate_modules():
        g.offset.sub_(1)
    save(net, path)
    assert torch.equal(load(path)(x), net(x))


@pytest.mark.parametrize("share", [0, 1e-9, 0.001, 0.3, 0.9, 0.9999])
def test_truncated_files(saved, share):
    _, _, path = saved
    data = path.read_bytes()
    path.write_bytes(data[: max(int(len(data) * share), 0 if share == 0 else 7)])
    with pytest.raises(CheckpointError):
        load(path)


@pytest.mark.parametrize("length", [1, 8, 9, 100, 5000])
def test_random_bytes(tmp_path, length):
    generator = torch.Generator().manual_seed(length)
    path = tmp_path / "noise"
    path.write_bytes(bytes(torch.randint(0, 256, (length,), generator=generator).tolist()))
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no file"):
        load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no file"):
        load(tmp_path)


def test_foreign_files(tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / "a")
    save_file({"a": torch.zeros(3)}, tmp_path / "b", metadata={"format": "pt"})
    torch.save({"a": torch.zeros(3)}, tmp_path / "c")
    for name in "abc":
        with pytest.raises(CheckpointError):
            load(tmp_path / name)


def rewrite(path, change=lambda d: None, tensors=lambda t: None):
    """Edit a checkpoint's description and tensors in place."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    description = json.loads(header["__metadata__"]["convgate"])
    values = load_file(path)
    replaced = change(description)
    tensors(values)
    save_file(values, path, metadata={"convgate": json.dumps(description if replaced is None else replaced)})


def _set(*path_and_value):
    *path, value = path_and_value

    def change(description):
        for key in path[:-1]:
            description = description[key]
        if value is KeyError:
            del description[path[-1]]
        else:
            description[path[-1]] = value

    return change


JUNK = [None, 3, -1, 1e308, 10**400, "x", [], {}, [[]], ["x"], {"a": "b"}, True, KeyError]
FIELDS = [("model",), ("method",), ("example",), ("fingerprint",), ("gates",), ("layers",), ("extra",), ("version",)]
FIELDS += [("model", "name"), ("model", "options"), ("method", "name"), ("method", "options")]


@pytest.mark.parametrize("field", FIELDS, ids="/".join)
@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:20])
def test_damaged_descriptions(saved, field, junk):
    net, x, path = saved
    rewrite(path, _set(*field, junk))
    try:
        again = load(path)
    except CheckpointError:
        return
    # What is left out or replaced may not matter (options at their defaults); then the network is the same.
    with torch.no_grad():
        assert torch.equal(again(x), net(x))


@pytest.mark.parametrize("description", [[], 3, "x", None, {}])
def test_descriptions_of_another_type(saved, description):
    _, _, path = saved
    rewrite(path)
    values = load_file(path)
    save_file(values, path, metadata={"convgate": json.dumps(description)})
    with pytest.raises(CheckpointError):
        load(path)


@pytest.mark.parametrize(
    "option",
    [
        ("tile", "x"),
        ("tile", 2.5),
        ("budget", "x"),
        ("bias", "x"),
        ("spatial", 0),
        ("group", 1e9),
        ("reduction", "a"),
        ("temperature", []),
    ],
)
def test_damaged_options(saved, option):
    _, _, path = saved
    rewrite(path, _set("method", "options", *option))
    with pytest.raises(CheckpointError):
        load(path)


@pytest.mark.parametrize(
    "options",
    [{"width": "x"}, {"width": 4.5}, {"width": 10**6}, {"depth": 20}, {"num_classes": -1}, {"weights": "DEFAULT"}],
)
def test_damaged_model_options(saved, options):
    _, _, path = saved
    rewrite(path, _set("model", "options", options))
    with pytest.raises(CheckpointError):
        load(path)


def test_newer_versions(saved):
    _, _, path = saved
    rewrite(path, _set("version", 3))
    with pytest.raises(CheckpointError, match="upgrade convgate"):
        load(path)


def test_renamed_missing_and_misshapen_tensors(saved):
    _, _, path = saved
    whole = path.read_bytes()
    for spoil in (
        lambda t: t.__setitem__("renamed", t.pop("fc.bias")),
        lambda t: t.pop("convgate.gates.layer1.0.spatial.offset"),
        lambda t: t.__setitem__("extra", torch.zeros(1)),
        lambda t: t.__setitem__("fc.bias", torch.zeros(11)),
    ):
        path.write_bytes(whole)
        rewrite(path, tensors=spoil)
        with pytest.raises(CheckpointError, match="does not fit"):
            load(path)


def test_tensors_of_another_type_are_refused(saved):
    _, _, path = saved
    rewrite(path, tensors=lambda t: t.__setitem__("fc.bias", torch.zeros(10, dtype=torch.int64)))
    with pytest.raises(CheckpointError):
        load(path)


def test_own_models_need_the_model(tmp_path):
    model = _own().eval()
    save(gate(model, DualGating(), torch.zeros(1, 3, 16, 16)), tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"load\(path, model=\.\.\.\)"):
        load(tmp_path / "net")
    with pytest.raises(CheckpointError):
        load(tmp_path / "net", model=create("cifar_resnet8"))
    with pytest.raises(CheckpointError):
        load(tmp_path / "net", model=nn.Linear(3, 3))
    before = copy.deepcopy(model.state_dict())
    load(tmp_path / "net", model=model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_half_precision_survives(make_small, tmp_path):
    net, x = make_small()
    save(net.double(), tmp_path / "net")
    again = load(tmp_path / "net")
    assert torch.equal(
        again(x.double() if next(again.parameters()).dtype == torch.float64 else x).double(), net(x.double())
    ), "the saved network computed in float64"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    torch.manual_seed(0)
    net = gate(create("cifar_resnet8", width=2).eval(), DualGating(), torch.zeros(1, 3, 8, 8))
    path = tmp_path_factory.mktemp("fuzz") / "net"
    save(net, path)
    return net, path.read_bytes(), path


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_in_the_header(original, data):
    net, whole, path = original
    (length,) = struct.unpack("<Q", whole[:8])
    spoiled = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        spoiled[data.draw(st.integers(0, length + 7))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(spoiled)
    try:
        again = load(path)
    except CheckpointError:
        return
    state, expected = again.state_dict(), net.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(torch.nan_to_num(state[k]), torch.nan_to_num(expected[k])) for k in expected)
    assert [s.name for s in again.plan.gates] == [s.name for s in net.plan.gates]


class Looks(nn.Module):
    """A gater of one's own: one convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, stride=4)

    def forward(self, images):
        return self.conv(images).mean((2, 3))


def test_a_method_with_a_module_of_ones_own_needs_the_method(tmp_path, scatter):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    method = GlobalGater(gater=Looks(), bottleneck=4)
    net = scatter(gate(create("cifar_resnet8", width=4).eval(), method, x))
    save(net, tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"load\(path, method=GlobalGater\(gater=...\)\)"):
        load(tmp_path / "net")
    again = load(tmp_path / "net", method=GlobalGater(gater=Looks(), bottleneck=4))
    with torch.no_grad():
        assert torch.equal(again(x), net(x))
    with pytest.raises(CheckpointError):
        load(tmp_path / "net", method=GlobalGater(gater=Looks(), bottleneck=5))
    with pytest.raises(CheckpointError):
        load(tmp_path / "net", method=DualGating())


V1 = sorted(p for p in (Path(__file__).parent / "data" / "v1").glob("*.safetensors") if ".outputs" not in p.name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", V1, ids=lambda p: p.stem)
def test_files_of_version_1_load(path, tmp_path, caplog):
    """Written by the last version that wrote them; one of them was calibrated tile by tile."""
    expected = load_file(path.with_suffix(".outputs.safetensors"))
    with caplog.at_level("WARNING", logger="convgate"):
        net = load(path)
    assert ("calibrate the network again" in caplog.text) == (path.stem == "dual_gating_groups")
    for _ in range(2):
        with torch.no_grad():
            y, decisions = net.decide(expected["x"])
        torch.testing.assert_close(y, expected["y"], rtol=1e-5, atol=1e-5)
        for name, decision in decisions.items():
            assert torch.equal(decision.mask.bool(), expected[f"mask.{name}"]), name
        assert torch.equal(net.cost(decisions).macs, expected["macs"])
        save(net, tmp_path / "again")
        net = load(tmp_path / "again")


def test_offsets_of_version_1_that_were_set_by_hand_are_refused(tmp_path):
    path = tmp_path / "net"
    path.write_bytes(next(p for p in V1 if p.stem == "dual_gating").read_bytes())
    rewrite(path, tensors=lambda t: t["gates.layer1.0.spatial.offset"].view(-1)[0].add_(1))
    with pytest.raises(CheckpointError, match="offset for each tile"):
        load(path)


def test_how_images_are_prepared_travels(tmp_path):
    network = gate(create("cifar_resnet8", width=4), DualGating(), torch.zeros(1, 3, 16, 16))
    assert network.preparation is None
    network.preparation = Preparation((16, 16), 18, classes=tuple("abcdefghij"))
    assert copy.deepcopy(network).preparation == pickle.loads(pickle.dumps(network)).preparation == network.preparation
    assert network.dense()(torch.zeros(1, 3, 16, 16)).shape == (1, 10)
    path = tmp_path / "net.safetensors"
    save(network, path)
    assert load(path).preparation == network.preparation
    description = json.loads(_metadata(path)["convgate"])
    description["preparation"]["size"] = [10**9, 1]
    save_file(load_file(path), path, metadata={"convgate": json.dumps(description)})
    with pytest.raises(CheckpointError, match="preparation"):
        load(path)
    network.preparation = "as always"
    with pytest.raises(CheckpointError, match=r"convgate\.Preparation"):
        save(network, path)


def _metadata(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_plain_weights_are_told_from_a_gated_network(tmp_path):
    plain, gated = tmp_path / "plain.safetensors", tmp_path / "gated.safetensors"
    save_file({"a": torch.zeros(1)}, plain)
    save(net := gate(create("cifar_resnet8", width=4), DualGating(), torch.zeros(1, 3, 16, 16)), gated)
    convgate.compile(net, threads=1).save(engine := tmp_path / "net.cgm")
    for refuse in (load, require_gated):
        with pytest.raises(CheckpointError, match="plain weights"):
            refuse(plain)
        with pytest.raises(CheckpointError, match=r"an engine's file \(.cgm\)"):
            refuse(engine)
    require_gated(gated)
    require_gated(tmp_path / "nothing")  # whoever reads it says that it is missing
