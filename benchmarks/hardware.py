"""What groups of channels are worth to an accelerator that completes sums on demand, with decisions drawn at random.

ResNet-18 at 224x224 with channel gates, whose open share cuts the MACs about 2.8 times as in CGNet's papers; the
machine is `cgnet-asic`. Decisions at random say nothing of a trained network. A minute on one core.

    python benchmarks/hardware.py
"""

from dataclasses import replace

import numpy as np
import torch
from torchvision.models import resnet18

import convgate
from convgate.hardware import Trace, accelerator, simulate

SHARES = {4: 0.072, 8: 0.205}
"""Partitions -> open share at which the network has about 1/2.8 of its MACs."""


def main() -> None:
    """Print the table of docs/hardware.md."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    machine = accelerator("cgnet-asic")
    ideal = replace(machine, dram_bytes_per_cycle=1024, dram_latency_cycles=0)
    print(
        "| partitions | group | MACs cut | speed-up, ideal memory | speed-up, 16 B per cycle |\n|---|---|---|---|---|"
    )
    for partitions, share in SHARES.items():
        for group in (16, 1):
            method = convgate.ChannelGating(partitions=partitions, group=group)
            net = convgate.gate(resnet18().eval(), method, torch.randn(1, 3, 224, 224)).eval()
            program = convgate.compile(net).program
            masks = {gate.name: (rng.random((2, *gate.shape)) < share).astype(np.uint8) for gate in program.gates}
            trace = Trace.of(program, masks)
            found = [simulate(program, trace, each) for each in (ideal, machine)]
            speedups = " | ".join(f"{each.speedup.mean():.2f}" for each in found)
            print(f"| {partitions} | {group} | {found[0].macs_cut.mean():.2f} | {speedups} |", flush=True)


if __name__ == "__main__":
    main()
