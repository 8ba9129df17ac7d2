"""MACs that each method cuts, and what of that its network gains in convgate's engine on this machine.

Random weights, gates calibrated to half of the MACs, or to what they can reach. Losing rows stay: where a method cannot
gain on a CPU, this is where to see it.

    python benchmarks/methods.py [--seconds 30] [--only resnet18,..]
"""

from cases import Case, main

CASES = (
    Case("resnet18", 0.5),
    Case("resnet18", 0.5, method="ChannelGating"),
    Case("resnet18", 0.5, method="ChannelGating", options={"group": 16}),
    Case("resnet18", 0.5, method="ChannelGating", options={"group": 64}),
    Case("resnet18", 0.5, method="BatchShaping"),
    Case("resnet18", None, method="LayerSkipping"),
    Case("resnet18", None, method="GlobalGater"),
    Case("cifar_vgg16", None, method="GlobalGater"),
)

if __name__ == "__main__":
    main("methods", CASES, __doc__)
