"""Functions that take a gated network: what they accept, and what they say of all else."""

import pytest
import torch
from torch import nn

import convgate
from convgate.errors import InputError

IMAGES = torch.zeros(4, 3, 32, 32)

TAKERS = {
    "calibrate": lambda network, folder: convgate.calibrate(network, [IMAGES], 0.8),
    "finetune": lambda network, folder: convgate.finetune(network, [IMAGES] * 2, budget=0.8, steps=1),
    "save": lambda network, folder: convgate.save(network, folder / "network.safetensors"),
}


def gated(device: str = "cpu") -> nn.Module:
    with torch.device(device):
        model = convgate.create_model("cifar_resnet8").eval()
    return convgate.gate(model, convgate.DualGating(), IMAGES).eval()


@pytest.mark.parametrize("name", TAKERS)
def test_what_is_no_gated_network_is_refused_by_name(name, tmp_path):
    with pytest.raises(InputError, match=rf"^{name}\(\) takes a GatedNetwork, not a Linear; make one with gate\(\)$"):
        TAKERS[name](nn.DataParallel(nn.Linear(2, 2)), tmp_path)


@pytest.mark.parametrize("name", TAKERS)
def test_wrappers_are_taken_off(name, tmp_path):
    TAKERS[name](nn.DataParallel(gated()), tmp_path)


WITHOUT_GATES = {
    "compile": lambda network: convgate.compile(network, IMAGES),
    "quantize": lambda network: convgate.quantize(network, [IMAGES]),
}


@pytest.mark.parametrize("name", [*TAKERS, *WITHOUT_GATES])
def test_a_network_without_values_is_refused(name, tmp_path):
    network = gated("meta")
    with pytest.raises(InputError, match=r"of the network's tensors hold no values \('.+' is on the meta device\)"):
        WITHOUT_GATES[name](network) if name in WITHOUT_GATES else TAKERS[name](network, tmp_path)
    if name in WITHOUT_GATES:
        with torch.device("meta"):
            dense = convgate.create_model("cifar_resnet8").eval()
        with pytest.raises(InputError, match="meta device"):
            WITHOUT_GATES[name](dense)
