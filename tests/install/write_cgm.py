"""Write a small gated network as FOLDER/net.cgm, with an image and what PyTorch computes for it; needs torch."""

import sys
from pathlib import Path

import numpy as np
import torch

import convgate
from convgate.models import create


def main(folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images = torch.randn(3, 3, 32, 32)
    model = create("cifar_resnet8").eval()
    network = convgate.gate(model, convgate.DualGating(), images).eval()
    convgate.calibrate(network, [images], 0.6)
    convgate.compile(network).save(folder / "net.cgm")
    with torch.no_grad():
        logits, decisions = network.decide(images)
    macs = network.cost(decisions).macs
    np.savez(folder / "expected.npz", images=images.numpy(), logits=logits.numpy(), macs=macs.numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
