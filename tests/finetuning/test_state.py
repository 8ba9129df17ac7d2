"""A finetuning that goes on from a damaged or foreign file says so, and leaves the network as it was."""

import copy

import pytest
import torch

from convgate import DualGating, gate
from convgate.errors import CheckpointError
from convgate.finetuning import finetune
from convgate.models import create


def tiny(randomise, width=4, classes=10):
    torch.manual_seed(0)
    images = torch.randn(32, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=width, num_classes=classes), images)
    return gate(model, DualGating(masks="equal"), images[:1]), list(images.split(8))


def _kill(terms):
    if terms["step"] == 3:
        raise KeyboardInterrupt


@pytest.fixture(params=[4, 16], ids=["learns", "closes"])
def killed(request, randomise, tmp_path):
    """(width, folder) of a run that was killed."""
    net, batches = tiny(randomise, request.param)
    with pytest.raises(KeyboardInterrupt):
        finetune(net, batches, budget=0.8, steps=4, out=tmp_path, keep=0.0, watch=_kill)
    return request.param, tmp_path


def refused(net, batches, folder, match):
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(CheckpointError, match=match) as error:
        finetune(net, batches, budget=0.8, steps=4, out=folder, keep=0.0)
    assert "state.pt" in str(error.value)
    assert "delete that file" in str(error.value)
    assert all(torch.equal(tensor, net.state_dict()[key]) for key, tensor in before.items())


@pytest.mark.parametrize("content", [b"", b"no pickle", "cut"])
def test_a_damaged_file(killed, randomise, content):
    width, folder = killed
    path = folder / "state.pt"
    path.write_bytes(path.read_bytes()[:2000] if content == "cut" else content)
    refused(*tiny(randomise, width), folder, "damaged")


@pytest.mark.parametrize("whole", [[1, 2], {}, {"share": 0.8}])
def test_a_foreign_file(killed, randomise, whole):
    width, folder = killed
    torch.save(whole, folder / "state.pt")
    refused(*tiny(randomise, width), folder, "does not hold a finetuning")


def _without(part, key):
    return lambda state: state[part].pop(key)


def _other(part, key, value):
    return lambda state: state[part].update({key: value})


DAMAGE = {
    "a part is missing": lambda state: state.pop("optimiser"),
    "a part is of another kind": lambda state: state.update(step="three"),
    "a weight is missing": lambda state: state["network"].popitem(),
    "a weight is no tensor": lambda state: state["network"].update(dict.fromkeys(list(state["network"])[:1], 3)),
    "no groups": _without("optimiser", "param_groups"),
    "a group lacks its scale": lambda state: state["optimiser"]["param_groups"][0].pop("scale"),
    "other means": lambda state: state["optimiser"]["state"][0].update(exp_avg=torch.zeros(1)),
    "means are missing": lambda state: state["optimiser"]["state"][0].pop("exp_avg_sq"),
    "a foreign field of the budget": _other("budget", "share", 0.1),
    "a budget of text": _other("budget", "target", "low"),
    "a foreign field of a judgement": _other("before", "price", 1),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_file_whose_parts_do_not_fit(killed, randomise, what):
    width, folder = killed
    state = torch.load(folder / "state.pt", weights_only=True)
    DAMAGE[what](state)
    torch.save(state, folder / "state.pt")
    refused(*tiny(randomise, width), folder, "finetuning|another network")


@pytest.mark.parametrize(
    "closing",
    [{"factors": {"nothing": []}, "closed": []}, {"factors": {}, "closed": [("nothing", 0)]}, {"factors": {}}, 3],
)
def test_closed_units_of_other_gates(randomise, tmp_path, closing):
    net, batches = tiny(randomise, 16)
    with pytest.raises(KeyboardInterrupt):
        finetune(net, batches, budget=0.8, steps=4, out=tmp_path, keep=0.0, watch=_kill)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["descent"]["closing"] = closing
    torch.save(state, tmp_path / "state.pt")
    refused(*tiny(randomise, 16), tmp_path, "does not hold a finetuning")


def test_a_network_that_was_changed_since(killed, randomise):
    width, folder = killed
    refused(*tiny(randomise, width, classes=7), folder, "another network")
