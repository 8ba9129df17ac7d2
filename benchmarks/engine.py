"""Milliseconds per image of gated networks in convgate's engine, against dense ones in other engines.

The networks of the engine's targets, with random weights, gates calibrated to the budgets. Channels decide one by
one, as in the paper, and in groups of 16, which fill a vector.

    python benchmarks/engine.py [--seconds 30] [--only resnet18,..]
"""

from cases import Case, main

CASES = (
    Case("resnet18", 0.53),
    Case("resnet18", 0.43),
    Case("resnet18", 0.43, threads=1),
    Case("resnet50", 0.403),
    Case("cifar_resnet20", 0.5),
    Case("mobilenet_v2", 0.55),
    *(
        Case(model, macs, options={"group": 16})
        for model, macs in (("resnet18", 0.43), ("resnet50", 0.403), ("cifar_resnet20", 0.5), ("mobilenet_v2", 0.55))
    ),
)

if __name__ == "__main__":
    main("engine", CASES, __doc__)
