"""How much memory detectors and segmenters need beside ONNX Runtime: one image, 320 to 1280 pixels wide and high.

    python benchmarks/memory.py [--size 320 640 1280] [--network retinanet_resnet50_fpn ..]

Memory is the peak of a process that loads the convolutional part from a file (.cgm, or ONNX for exactly that size) and
runs it on one image, less that of a process that only imports the runtime. Weights are random, and all gates are open:
what is closed needs none, or no more. Writes results/memory.json.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from records import record
from torch import nn

import convgate
from convgate.bench.runtimes.onnx_model import export
from convgate.gated import GatedModel

SIZES = (320, 640, 1280)
EXAMPLE = 320

_PEAK = """
import sys
import numpy as np
runtime, size, file = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
if runtime == "convgate":
    import convgate.engine
    if file:
        engine = convgate.engine.load(file[0], threads=1)
        engine(np.zeros((1, 3, size, size), np.float32))
else:
    import onnxruntime
    if file:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(file[0], options, providers=["CPUExecutionProvider"])
        session.run(None, {"images": np.zeros((1, 3, size, size), np.float32)})
status = open("/proc/self/status").read()  # ru_maxrss begins with the parent's
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


_UNTRAINED = {"weights": None, "weights_backbone": None}

DETECTORS = ("point_detector", "retinanet_resnet50_fpn")
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "point_detector": lambda: convgate.create_model("point_detector", num_classes=11, width=24),
    "retinanet_resnet50_fpn": lambda: torchvision.models.detection.retinanet_resnet50_fpn(**_UNTRAINED),
    "lraspp_mobilenet_v3_large": lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(**_UNTRAINED),
    "deeplabv3_resnet50": lambda: torchvision.models.segmentation.deeplabv3_resnet50(**_UNTRAINED),
}


def peak(runtime: str, size: int, *file: Path) -> int:
    """Bytes that a process needs at most that imports the runtime and, where a file is given, loads and runs it."""
    arguments = [sys.executable, "-c", _PEAK, runtime, str(size), *map(str, file)]
    return int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def needed(size: int, file: Path) -> int:
    """Bytes for a .cgm file's network: weights, maps and what loading takes, but not what importing the engine does."""
    return peak("convgate", size, file) - peak("convgate", size)


def gated(name: str) -> convgate.GatedNetwork:
    """The convolutional part of a detector, or a segmenter, with gates that are all open."""
    torch.manual_seed(0)
    model, image = NETWORKS[name]().eval(), torch.zeros(3, EXAMPLE, EXAMPLE)
    net = convgate.gate(model, convgate.DualGating(tile=4), [image] if name in DETECTORS else image[None])
    return net.network if isinstance(net, GatedModel) else net


def rows(name: str, sizes: list[int], folder: Path) -> list[dict[str, Any]]:
    """A row for each size."""
    net = gated(name).eval()
    dense = net.dense().eval()
    files = {"dense": folder / "dense.cgm", "gated": folder / "gated.cgm"}
    convgate.compile(dense, torch.zeros(net.plan.example)).save(files["dense"])
    convgate.compile(net).save(files["gated"])
    found = []
    for size in sizes:
        exported = folder / "dense.onnx"
        exported.write_bytes(export(dense, np.zeros((1, 3, size, size), np.float32)))
        each = {f"ours, {what}": needed(size, file) for what, file in files.items()}
        each["ONNX Runtime, dense"] = peak("onnxruntime", size, exported) - peak("onnxruntime", size)
        print(name, size, {what: f"{n / 2**20:.0f} MiB" for what, n in each.items()}, flush=True)
        found.append({"network": name, "size": size, "bytes": each})
    return found


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args()
    found = []
    for name in options.network:
        with tempfile.TemporaryDirectory() as folder:
            found += rows(name, options.size, Path(folder))
    print(record("memory", {"rows": found}))


if __name__ == "__main__":
    main()
