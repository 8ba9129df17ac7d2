"""A program's table says what a reader looks for."""

import torch

import convgate
from convgate.models import create


def test_table_of_a_gated_network() -> None:
    model = create("cifar_resnet8").eval()
    network = convgate.gate(model, convgate.DualGating(), example=torch.zeros(1, 3, 32, 32)).eval()
    text = convgate.compile(network).describe()
    dense = network.ledger.dense + network.ledger.gate_macs
    assert f"{dense:,} MACs" in text
    for words in ("layer1.0.conv1", "conv 3x3, relu", "positions: layer1.0.spatial", "decide", "16x32x32", "stride 2"):
        assert words in text, words
