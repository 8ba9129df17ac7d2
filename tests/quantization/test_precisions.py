"""A network as an engine has it in each precision."""

import pytest
import torch

import convgate
from convgate.errors import InputError
from convgate.models import create
from convgate.quantization.precisions import engine_in

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_each_precision_of_a_network_and_of_an_engine(precision):
    network = create("cifar_resnet8", width=4).eval()
    made = engine_in(network, precision, [IMAGES], example=IMAGES, threads=1)
    assert (made.precision, made.threads) == (precision, 1)
    again = engine_in(convgate.compile(network, IMAGES, threads=1), precision, [IMAGES], threads=1)
    assert (made(IMAGES.numpy()) == again(IMAGES.numpy())).all()


def test_by_default_it_is_what_was_given():
    network = create("cifar_resnet8", width=4).eval()
    assert engine_in(network, None, example=IMAGES, threads=1).precision == "float32"
    half = convgate.compile(network, IMAGES, threads=1, precision="bf16")
    assert engine_in(half, None, threads=1).precision == "bf16"


def test_integers_need_images():
    with pytest.raises(InputError, match="give images that choose the scales"):
        engine_in(create("cifar_resnet8", width=4), "int8")
