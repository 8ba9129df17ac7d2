"""Names as in the authors' code: block.mask_s.atten_s, block.mask_c[12].atten_c.{0,1,3}; the rest as torchvision."""

import pytest
import torch

from convgate.errors import CheckpointError
from convgate.gated import gate
from convgate.methods import DualGating, load_dgnet_weights
from convgate.models import create

CHANNEL = {"reduce": "0", "norm": "1", "expand": "3"}


def published_names(network):
    """Our state dict under the authors' names, written down block by block."""
    state = {}
    for key, tensor in network.state_dict().items():
        parts = key.removeprefix("gates.").split(".")
        if parts[0] != "gates":
            state[key] = tensor
        elif "spatial" in parts:
            block = ".".join(parts[1 : parts.index("spatial")])
            state[f"{block}.mask_s.atten_s.{parts[-1]}"] = tensor
        elif "head" in parts:
            layer, tensor_name = parts[-2:]
            conv = parts.index("channel") - 1
            block = ".".join(parts[1:conv])
            number = parts[conv].removeprefix("conv") if network.plan.spec.name == "resnet50" else ""
            four = tensor[:, :, None, None] if tensor.dim() == 2 else tensor  # their linear layers are 1x1 convolutions
            state[f"{block}.mask_c{number}.atten_c.{CHANNEL[layer]}.{tensor_name}"] = four
    return {key: tensor for key, tensor in state.items() if not key.endswith("offset")}


@pytest.mark.parametrize(
    ("name", "size", "prefix"),
    [("cifar_resnet20", 32, ""), ("cifar_resnet20", 32, "module."), ("resnet18", 64, ""), ("resnet50", 64, "")],
)
def test_published_names_load(name, size, prefix):
    example = torch.randn(2, 3, size, size)
    source, target = (gate(create(name), DualGating(), example).eval() for _ in range(2))
    state = published_names(source)
    assert any("mask_s.atten_s.bias" in key for key in state)
    load_dgnet_weights(target, {prefix + key: tensor for key, tensor in state.items()})
    for key, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], tensor), key


def test_what_calibration_set_is_undone():
    example = torch.randn(2, 3, 32, 32)
    source, target = (gate(create("cifar_resnet8"), DualGating(), example).eval() for _ in range(2))
    for _, ours in target.gate_modules():
        ours.offset += 1
    load_dgnet_weights(target, published_names(source))
    assert not any(ours.offset.any() for _, ours in target.gate_modules())


def test_weights_of_another_network_are_refused():
    example = torch.randn(2, 3, 32, 32)
    shallow, deep = (gate(create(f"cifar_resnet{n}"), DualGating(), example) for n in (8, 14))
    with pytest.raises(CheckpointError, match=r"layer1\.1"):
        load_dgnet_weights(shallow, published_names(deep))
    before = {key: tensor.clone() for key, tensor in deep.state_dict().items()}
    with pytest.raises(CheckpointError, match="missing"):
        load_dgnet_weights(deep, published_names(shallow))
    assert all(torch.equal(tensor, before[key]) for key, tensor in deep.state_dict().items())
