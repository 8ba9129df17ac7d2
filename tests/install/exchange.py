"""Checkpoints cross versions of torch: what one version saves, another loads, with equal outputs, masks and MACs.

`exchange.py PYTHON`: this interpreter and PYTHON, which has another torch, each write a gated network and load the
other's. `exchange.py write|read FOLDER` is what each of them runs.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
METHODS = ("DualGating", "ChannelGating", "BatchShaping", "LayerSkipping", "GlobalGater")


def write(folder: Path) -> None:
    import torch

    import convgate
    from convgate.models import create

    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    for method in METHODS:
        network = convgate.gate(create("cifar_resnet8").eval(), getattr(convgate, method)(), images).eval()
        convgate.save(network, folder / f"{method}.safetensors")
        with torch.no_grad():
            logits, decisions = network.decide(images)
        masks = {name: decision.mask for name, decision in decisions.items()}
        torch.save((images, logits, masks, network.cost(decisions).macs), folder / f"{method}.pt")


def read(folder: Path) -> None:
    import torch

    import convgate

    for method in METHODS:
        images, logits, masks, macs = torch.load(folder / f"{method}.pt", weights_only=True)
        network = convgate.load(folder / f"{method}.safetensors").eval()
        with torch.no_grad():
            ours, decisions = network.decide(images)
        torch.testing.assert_close(ours, logits, rtol=1e-5, atol=1e-5)
        assert {name: d.mask for name, d in decisions.items()}.keys() == masks.keys()
        assert all(torch.equal(decisions[name].mask, mask) for name, mask in masks.items())
        assert torch.equal(network.cost(decisions).macs, macs)
    print(f"torch {torch.__version__} loads what the other wrote")


def exchange(other: str) -> None:
    for writer, reader in ((other, sys.executable), (sys.executable, other)):
        with tempfile.TemporaryDirectory() as folder:
            for python, act in ((writer, "write"), (reader, "read")):
                environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
                subprocess.run([python, __file__, act, folder], check=True, env=environment)


if __name__ == "__main__":
    if sys.argv[1] in ("write", "read"):
        {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
    else:
        exchange(sys.argv[1])
