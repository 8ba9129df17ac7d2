import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convgate.errors import CheckpointError
from convgate.models import create
from convgate.weights import load_weights, misfit, read_tensors


def test_weights_load_under_their_own_and_other_names(tmp_path):
    source, target = create("cifar_resnet8"), create("cifar_resnet8")
    state = {key.replace("fc.", "linear."): tensor for key, tensor in source.state_dict().items()}
    save_file({key: t for key, t in state.items() if "num_batches" not in key}, tmp_path / "weights")
    load_weights(target, tmp_path / "weights", {"linear.": "fc."})
    assert all(torch.equal(target.state_dict()[key], tensor) for key, tensor in source.state_dict().items())


def prefixed(prefix):
    return lambda state: {prefix + key: tensor for key, tensor in state.items()}


def zeros(state):
    return {key: torch.zeros_like(tensor) for key, tensor in state.items()}


WRITTEN = {
    "plain": lambda s: s,
    "a checkpoint": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda s: {"model_state_dict": s},
    "net": lambda s: {"net": prefixed("module.")(s), "acc": 93.1},
    "DataParallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "compiled, then parallel": prefixed("module._orig_mod."),
    "parallel, then compiled": lambda s: {"state_dict": prefixed("_orig_mod.module.")(s)},
    "averaged": lambda s: {"epoch": 3, "arch": "x", "state_dict": zeros(s), "state_dict_ema": s},
    "averaged model": lambda s: {"model": zeros(s), "model_ema": {"module": s, "decay": 0.999}},
    "Lightning": lambda s: {"state_dict": prefixed("model.")(s), "hyper_parameters": {"lr": 0.1}},
    "AveragedModel": lambda s: {"n_averaged": torch.tensor(3), **prefixed("module.")(s)},
}


@pytest.mark.parametrize("name", ["weights.pth", "resnet.th", "model_best.pth.tar", "weights", "odd.safetensors"])
@pytest.mark.parametrize("form", WRITTEN)
def test_checkpoints_of_any_form_and_name_load(form, name, tmp_path):
    source, target = create("cifar_resnet8"), create("cifar_resnet8")
    torch.save(WRITTEN[form](source.state_dict()), tmp_path / name)
    load_weights(target, tmp_path / name)
    assert all(torch.equal(target.state_dict()[key], tensor) for key, tensor in source.state_dict().items())


def test_old_pickles_and_misnamed_safetensors_are_told_by_their_content(tmp_path):
    source = create("cifar_resnet8")
    torch.save(source.state_dict(), tmp_path / "old", _use_new_zipfile_serialization=False)
    save_file(source.state_dict(), tmp_path / "weights.pth")
    for name in ("old", "weights.pth"):
        target = create("cifar_resnet8")
        load_weights(target, tmp_path / name)
        assert torch.equal(target.fc.weight, source.fc.weight)


def test_a_models_own_child_may_have_a_wrappers_name(tmp_path):
    model = nn.Sequential()
    model.add_module("module", nn.Linear(2, 2))
    torch.save(model.state_dict(), tmp_path / "weights")
    with torch.no_grad():
        wanted = model.module.weight.clone()
        model.module.weight.zero_()
    load_weights(model, tmp_path / "weights")
    assert torch.equal(model.module.weight, wanted)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (b"<!DOCTYPE html><html>404", "web page"),
        (b"weights, honestly", "neither safetensors nor"),
        (b"PK\x03\x04 and no more", "damaged"),
        (b"\x80\x02 and no more", "damaged"),
        (b"\x00\x01\x00\x00\x00\x00\x00\x00{and no more", "damaged"),
    ],
)
def test_other_files_are_told_by_their_content(content, said, tmp_path):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        read_tensors(tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_tensors(tmp_path)


class Surprise:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"a": Surprise()}, "more than tensors"), ({"a": 3}, "no state dict"), (torch.zeros(2), "no state dict")],
)
def test_what_is_no_state_dict_is_refused_and_nothing_is_executed(content, message, tmp_path, capsys):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=message):
        load_weights(create("cifar_resnet8"), tmp_path / "weights.pt", {})
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(create("cifar_resnet8"), tmp_path / "damaged.pt", {})
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda s: s.pop("fc.bias"), r"missing: fc\.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown: extra"),
        (lambda s: s.update({"fc.bias": torch.zeros(11)}), r"other shape or type: fc\.bias"),
        (lambda s: s.update({"fc.bias": torch.zeros(10, dtype=torch.int64)}), r"other shape or type: fc\.bias"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(spoil, named, tmp_path):
    model = create("cifar_resnet8")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = {key: tensor.clone() for key, tensor in create("cifar_resnet8").state_dict().items()}
    spoil(state)
    save_file(state, tmp_path / "weights")
    with pytest.raises(CheckpointError, match=named):
        load_weights(model, tmp_path / "weights", {})
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in before.items())


def test_long_lists_are_cut():
    assert misfit({f"k{i}": torch.zeros(1) for i in range(9)}, {}) == "missing: k0, k1, k2, k3, .."


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no weights file"):
        load_weights(create("cifar_resnet8"), tmp_path / "nothing", {})
    (tmp_path / "junk").write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(create("cifar_resnet8"), tmp_path / "junk", {})


def test_a_safetensors_file_whose_length_begins_as_a_pickle_is_read(tmp_path):
    path, model = tmp_path / "net.safetensors", nn.Linear(2, 1)
    for more in range(0, 256, 8):
        save_file(model.state_dict(), path, metadata={"note": "x" * more})
        if path.read_bytes()[:1] == b"\x80":
            break
    else:
        pytest.fail("no such length")
    assert read_tensors(path).keys() == model.state_dict().keys()
