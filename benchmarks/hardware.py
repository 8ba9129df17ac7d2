"""What is left of fewer MACs on simulated accelerators: beside the claims of CGNet's and DGNet's papers.

    python benchmarks/hardware.py groups      # what groups of channels are worth to completed sums; a minute
    python benchmarks/hardware.py accesses    # how many fewer accesses to memory, under three ways of counting
    python benchmarks/hardware.py trained GATED.safetensors .. --cifar cifar10.npz --images 1000
    python benchmarks/hardware.py area --sides 4 16    # of the RTL, by yosys; minutes
    python benchmarks/hardware.py speed      # how long the simulator takes for a thousand images, and how much memory
    python benchmarks/hardware.py methods    # is each method simulated, does its network run on the RTL? minutes

The first two draw decisions at random, as papers do not publish theirs: ResNet-18 with channel gates whose open share
cuts the MACs about 2.8 times, at 224x224 and on CIFAR's 32x32; the machine is `cgnet-asic`. Decisions at random say
nothing of a trained network. `trained` takes checkpoints of gated CIFAR networks and records what they decide for the
first test images, on `cgnet-asic` if sums are completed and on `dgnet-ultra96` if not; its rows go to
`results/hardware.json`. `area` has what the index module and all that goes with it take beside an array without them;
it goes to `results/hardware_area.json`. `methods` gates a CIFAR ResNet-8 with each method, with random weights and
random masks (or thresholds that half of all partial sums are above): the simulator's MACs must be the engine's, and
the RTL of a 4x4 array the reference's results in the simulator's cycles; `results/hardware_methods.json` has what was
compared, and README's last column of methods is drawn from it.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar import name_of, normalised
from records import record
from torch import nn
from torchvision.models import resnet18, resnet50

import convgate
from convgate.engine.program import IntegerDecide, Program
from convgate.gated.method import Method
from convgate.hardware import Trace, accelerator, simulate
from convgate.hardware import record as decisions_of
from convgate.hardware.accesses import CONVENTIONS, access_cut
from convgate.hardware.area import ArrayArea, as_data, built_as
from convgate.hardware.report import Spread
from convgate.hardware.rtl import verify
from convgate.hardware.rtl.synth import areas, tool
from convgate.methods.registry import list_methods, method_class
from convgate.models import create

SHARES = {4: 0.072, 8: 0.205}
"""Partitions -> open share at which the network has about 1/2.8 of its MACs."""


def drawn(model: nn.Module, size: int) -> Iterator[tuple[int, int, Program, Trace]]:
    """(partitions, group, program, decisions drawn at random) for each setting."""
    rng = np.random.default_rng(0)
    for partitions, share in SHARES.items():
        for group in (16, 1):
            method = convgate.ChannelGating(partitions=partitions, group=group)
            net = convgate.gate(model, method, torch.randn(1, 3, size, size)).eval()
            program = convgate.compile(net).program
            masks = {gate.name: (rng.random((2, *gate.shape)) < share).astype(np.uint8) for gate in program.gates}
            yield partitions, group, program, Trace.of(program, masks)


def groups() -> None:
    """Print the table of groups of docs/hardware.md."""
    machine = accelerator("cgnet-asic")
    ideal = replace(machine, dram_bytes_per_cycle=1024, dram_latency_cycles=0)
    print(
        "| partitions | group | MACs cut | speed-up, ideal memory | speed-up, 16 B per cycle |\n|---|---|---|---|---|"
    )
    for partitions, group, program, trace in drawn(resnet18().eval(), 224):
        found = [simulate(program, trace, each) for each in (ideal, machine)]
        speedups = " | ".join(f"{each.speedup.mean():.2f}" for each in found)
        print(f"| {partitions} | {group} | {found[0].macs_cut.mean():.2f} | {speedups} |", flush=True)


def accesses() -> None:
    """Print the table of accesses of docs/hardware.md."""
    print(f"| partitions | group | {' | '.join(CONVENTIONS)} |\n|---|---|{'---|' * len(CONVENTIONS)}")
    for partitions, group, program, trace in drawn(create("cifar_resnet18").eval(), 32):
        found = access_cut(program, trace, accelerator("cgnet-asic"))
        print(f"| {partitions} | {group} | {' | '.join(f'{cut.mean():.2f}' for cut in found.values())} |", flush=True)


def trained(paths: list[Path], cifar: Path, count: int) -> None:
    """Simulate checkpoints (see above on which machine), print and record their rows."""
    data = np.load(cifar)
    rows = []
    for path in paths:
        network = convgate.load(path).eval()
        images = normalised(data["test_x"][:count], network).numpy()
        engine = convgate.compile(network)
        machine = accelerator("cgnet-asic" if network.plan.partials else "dgnet-ultra96")
        logits = np.concatenate([engine(images[begin : begin + 100]) for begin in range(0, count, 100)])
        trace = decisions_of(engine, images)
        found = simulate(engine.program, trace, machine)
        heads = found.gated.by_line[:, found.gated.heads].sum(1) / found.gated.total
        row: dict[str, Any] = {
            "network": name_of(path),
            "images": count,
            "accuracy": float((logits.argmax(1) == data["test_y"][:count]).mean()),
            "accelerator": machine.name,
            "macs_cut": vars(Spread.of(found.macs_cut)),
            "speedup": vars(Spread.of(found.speedup)),
            "realised": vars(Spread.of(found.realised)),
            "head_share_of_cycles": float(heads.mean()),
            "accesses_cut": {
                way: vars(Spread.of(cut)) for way, cut in access_cut(engine.program, trace, machine).items()
            },
        }
        rows.append(row)
        print(row, flush=True)
    print(f"recorded in {record('hardware', {'rows': rows})}")


def area(sides: list[int], seconds: float) -> None:
    """Count what the RTL takes, and record each array as soon as it is done."""
    told, arrays = tool(), list[ArrayArea]()
    for side in sides:
        machine, found = accelerator("dgnet-ultra96", rows=side, columns=side), {}
        for name, taken in areas(machine, seconds):
            found[name] = taken
            print(f"{side}x{side} {name}: {found[name]}", flush=True)
        arrays.append(ArrayArea(side, side, found, told, machine.name, built_as(machine)))
        print(f"recorded in {record('hardware_area', as_data(arrays))}", flush=True)


def of_methods() -> dict[str, Method]:
    """The methods that are tried, by name."""
    own = {name: method_class(name)() for name in list_methods() if name != "Combined"}
    own["ChannelGating"] = convgate.ChannelGating(threshold=0.0)  # it decides on its sums itself: half of them are open
    return {**own, "Combined": convgate.Combined(own["DualGating"], penalties=[own["BatchShaping"]])}


def methods() -> None:
    """Simulate a small network of each method, run it on the RTL in 8-bit integers, record both."""
    torch.manual_seed(0)
    machine, images = accelerator("dgnet-ultra96", rows=4, columns=4), torch.randn(8, 3, 16, 16)
    rows = []
    for name, method in of_methods().items():
        net = convgate.gate(create("cifar_resnet8").eval(), method, images).eval()
        engine = convgate.quantize(net, [images], threads=1)
        x = images[:2].numpy()
        on_sums = {op.output for op in engine.program.operations if isinstance(op, IntegerDecide)}
        masks = {
            gate.name: (np.random.default_rng(0).random((len(x), *gate.shape)) < 0.5).astype(np.uint8)
            for gate in engine.program.gates
            if gate.name not in on_sums
        }
        ran = engine.run(x, given=masks)
        decided = {name: decision.mask for name, decision in ran.decisions.items()}
        simulated = simulate(engine.program, Trace.of(engine.program, decided), machine)
        verified = verify(engine.program, x, machine, masks)
        row: dict[str, Any] = {
            "method": name,
            "simulator_has_the_engines_macs": bool((simulated.gated.macs.sum(1) == ran.macs).all()),
            "rtl_passed": verified.passed,
            "rtl_layers": len({found.layer for found in verified.layers}),
            "left_to_the_host": list(verified.host),
            "counters_compared": verified.compared,
            "cycles": sum(found.cycles for found in verified.layers),
        }
        rows.append(row)
        print(row, flush=True)
    print(f"recorded in {record('hardware_methods', {'network': 'cifar_resnet8', 'array': '4x4', 'rows': rows})}")


_MEASURED = """
import resource, subprocess, sys, time
begun = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
took = time.perf_counter() - begun
print(round(took, 2), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""
# From a small process: one that a large process starts is told to have been as large.


def speed() -> None:
    """Time the command that simulates, in a process of its own, and record it."""
    cases = (("DualGating", "dgnet-ultra96", 1000), ("ChannelGating", "cgnet-asic", 100))
    rows = []
    for name, machine, images in cases:
        net = convgate.gate(resnet50().eval(), method_class(name)(), torch.zeros(1, 3, 224, 224)).eval()
        program, rng = convgate.compile(net).program, np.random.default_rng(0)
        shapes = {gate.name: (images, *gate.shape) for gate in program.gates}
        drawn = {name: (rng.random(shape, np.float32) < 0.4).astype(np.uint8) for name, shape in shapes.items()}
        with tempfile.TemporaryDirectory() as folder:
            network, trace = Path(folder) / "resnet50.cgm", Path(folder) / "resnet50.cgt"
            convgate.compile(net).save(network)
            Trace.of(program, drawn).save(trace)
            del drawn
            command = [sys.executable, "-m", "convgate.cli", "hardware", "simulate", network, trace]
            measured = [sys.executable, "-c", _MEASURED, *map(str, command), "--accelerator", machine]
            told = subprocess.run(measured, stdout=subprocess.PIPE, text=True, check=True).stdout
            took, peak = told.splitlines()[-1].split()
            size = trace.stat().st_size
        row: dict[str, Any] = {"network": "resnet50", "method": name, "accelerator": machine, "images": images}
        rows.append(row | {"seconds": float(took), "peak_mib": int(peak), "trace_mib": round(size / 2**20, 1)})
        print(rows[-1], flush=True)
    print(f"recorded in {record('hardware_speed', {'rows': rows})}")


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("groups")
    actions.add_parser("accesses")
    networks = actions.add_parser("trained")
    networks.add_argument("paths", type=Path, nargs="+", metavar="GATED")
    networks.add_argument("--cifar", type=Path, required=True, help="cifar10.npz: test_x, uint8 [N, 32, 32, 3], test_y")
    networks.add_argument("--images", type=int, default=1000)
    actions.add_parser("methods")
    actions.add_parser("speed")
    arrays = actions.add_parser("area")
    arrays.add_argument("--sides", type=int, nargs="+", default=[4, 16])
    arrays.add_argument("--seconds", type=float, default=3600, help="that yosys may take for each")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.action == "trained":
        trained(options.paths, options.cifar, options.images)
    elif options.action == "area":
        area(options.sides, options.seconds)
    else:
        {"groups": groups, "accesses": accesses, "methods": methods, "speed": speed}[options.action]()


if __name__ == "__main__":
    main()
