"""How fast a finetuned network is: gated, and without what its gates close for every image (pruned), on photographs.

Whole networks of batch 1 by turns in one process: our engine with the dense, the gated and the pruned network, in
float32 and bfloat16, and OpenVINO and (float32) ONNX Runtime with the dense and the pruned one. The share of the
promised gain is (own dense time / time - 1) / (1 / MACs left - 1).

    python benchmarks/finetuned.py mine/net.safetensors --like resnet50 --images photos --seconds 90 --record

`--record` writes benchmarks/results/finetuned.json. Run it on a quiet machine.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import RESULTS, build, machine
from torch import nn

import convgate
from convgate.bench.runtimes import onnxruntime as in_onnxruntime
from convgate.bench.runtimes import openvino as in_openvino
from convgate.data import list_images
from convgate.finetuning.closing.pruned import pruned
from convgate.finetuning.closing.readers import closable
from convgate.gated import GatedNetwork
from convgate.timing.interleave import interleave

PHOTOGRAPHS = 16


def without_closed(network: GatedNetwork, images: torch.Tensor) -> nn.Module:
    """The pruned network, checked on the images."""
    with torch.no_grad():
        wanted, decisions = network.decide(images)
        masks = {gate.gate: decisions[gate.gate].mask.flatten(1).bool() for gate in closable(network)}
        assert all(bool((mask == mask[0]).all()) for mask in masks.values()), "some units change from image to image"
        smaller = pruned(network, {name: mask[0] for name, mask in masks.items()})
        torch.testing.assert_close(smaller(images), wanted, rtol=1e-3, atol=1e-3)
    return smaller


def openvino(model: nn.Module, image: np.ndarray, threads: int, precision: str) -> Callable[[np.ndarray], Any]:
    """The network in OpenVINO."""
    request, _ = in_openvino.request(model, image, threads, precision)
    return lambda images: request.infer([images], share_inputs=True, share_outputs=True)[0]


def onnxruntime(model: nn.Module, image: np.ndarray, threads: int) -> Callable[[np.ndarray], Any]:
    """The network in ONNX Runtime."""
    session = in_onnxruntime.session(model, image, threads)
    return lambda images: session.run(None, {"images": images})[0]


def timed(network: GatedNetwork, inputs: Sequence[np.ndarray], threads: int, seconds: float) -> dict[str, Any]:
    """Name, precision -> the quantiles of its times and, of ours, the MACs left and the share of the promised gain."""
    image = torch.from_numpy(inputs[0])
    dense, smaller = network.dense().eval(), without_closed(network, torch.from_numpy(np.concatenate(inputs)))
    functions: dict[str, Callable[[np.ndarray], Any]] = {}
    for precision in ("float32", "bf16"):
        ours = {"threads": threads, "precision": precision}
        functions[f"dense, {precision}"] = convgate.compile(dense, image, **ours)
        functions[f"gated, {precision}"] = convgate.compile(network, **ours)
        functions[f"pruned, {precision}"] = convgate.compile(smaller, image, **ours)
        name = "f32" if precision == "float32" else precision
        functions[f"OpenVINO dense, {precision}"] = openvino(dense, inputs[0], threads, name)
        functions[f"OpenVINO pruned, {precision}"] = openvino(smaller, inputs[0], threads, name)
    functions["ONNX Runtime dense, float32"] = onnxruntime(dense, inputs[0], threads)
    functions["ONNX Runtime pruned, float32"] = onnxruntime(smaller, inputs[0], threads)
    run = convgate.compile(smaller, image, threads=threads).run(inputs[0])
    with torch.no_grad():
        left = {
            "gated": float(network.cost(network.decide(image)[1]).ratio),
            "pruned": int(run.macs[0]) / network.ledger.dense,
        }
    samples = interleave(
        {name: lambda n, f=f: f(inputs[n % len(inputs)]) for name, f in functions.items()}, seconds=seconds
    )
    rows: dict[str, Any] = {}
    for name, sample in samples.items():
        low, middle, high = np.quantile(sample.required(name), (0.2, 0.5, 0.8))
        rows[name] = {"p20_ms": low, "median_ms": middle, "p80_ms": high, "n": len(sample.milliseconds)}
    for name, row in rows.items():
        kind, _, precision = name.partition(", ")
        if kind in left:
            gain = rows[f"dense, {precision}"]["median_ms"] / row["median_ms"]
            row |= {"macs_left": left[kind], "gain": gain, "share_of_promised": (gain - 1) / (1 / left[kind] - 1)}
        print(name.ljust(30), "  ".join(f"{key} {value:.3g}" for key, value in row.items()))
    return rows


def main() -> None:
    """Time them, and print and record the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--like", required=True, help="the model whose preparation is used")
    parser.add_argument("--images", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = convgate.load(options.checkpoint).eval()
    preparation = convgate.preparation_of(options.like)
    inputs = [preparation.read([path]) for path in list_images([options.images])[:PHOTOGRAPHS]]
    rows = timed(network, inputs, options.threads, options.seconds)
    if options.record:
        record = {"network": options.like, "threads": options.threads, "images": PHOTOGRAPHS, "rows": rows}
        (RESULTS / "finetuned.json").write_text(json.dumps(record | {"machine": machine(), **build()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
