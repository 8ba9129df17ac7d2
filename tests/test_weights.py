import pytest
import torch
from safetensors.torch import save_file

from convgate.errors import CheckpointError
from convgate.models import create
from convgate.weights import load_weights, misfit


def test_weights_load_under_their_own_and_other_names(tmp_path):
    source, target = create("cifar_resnet8"), create("cifar_resnet8")
    state = {key.replace("fc.", "linear."): tensor for key, tensor in source.state_dict().items()}
    save_file({key: t for key, t in state.items() if "num_batches" not in key}, tmp_path / "weights")
    load_weights(target, tmp_path / "weights", {"linear.": "fc."})
    assert all(torch.equal(target.state_dict()[key], tensor) for key, tensor in source.state_dict().items())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_state_dicts_of_torch_save_load_too(wrap, tmp_path):
    source, target = create("cifar_resnet8"), create("cifar_resnet8")
    torch.save(wrap({f"module.{key}": t for key, t in source.state_dict().items()}), tmp_path / "weights.pth")
    load_weights(target, tmp_path / "weights.pth", {})
    assert all(torch.equal(target.state_dict()[key], tensor) for key, tensor in source.state_dict().items())


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
