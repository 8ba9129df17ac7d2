"""ncnn, of networks that pnnx converts, in float32 or stored in bfloat16. It takes one image at a time."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from convgate.bench.built import Built, Workload, by_size
from convgate.bench.runtimes.onnx_model import export
from convgate.errors import InputError

__all__ = ["bf16", "float32"]


def float32(work: Workload, threads: int) -> Built:
    """All in float32."""
    return Built(by_size(work, lambda images: _call(work, images, threads, half=False)))


def bf16(work: Workload, threads: int) -> Built:
    """Stored in bfloat16, computed in float32."""
    return Built(by_size(work, lambda images: _call(work, images, threads, half=True)))


def _call(work: Workload, images: np.ndarray, threads: int, *, half: bool) -> Any:
    import ncnn
    import pnnx

    if len(images) > 1:
        raise InputError(f"ncnn takes one image at a time, and these are batches of {len(images)}")
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_bf16_storage = half
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(export(work.dense, images))
        made = subprocess.run(
            [pnnx.EXEC_PATH, path.name, "fp16=0"], cwd=folder, capture_output=True, text=True, check=False
        )
        if not path.with_suffix(".ncnn.param").is_file():
            raise InputError(f"pnnx did not convert the network: {made.stderr[-200:] or made.stdout[-200:]}")
        net.load_param(str(path.with_suffix(".ncnn.param")))
        net.load_model(str(path.with_suffix(".ncnn.bin")))
    (source,), targets = net.input_names(), net.output_names()

    def call(images: np.ndarray) -> list[np.ndarray]:
        extractor = net.create_extractor()
        extractor.input(source, ncnn.Mat(images[0]))
        found = [extractor.extract(target) for target in targets]
        if any(status for status, _ in found):
            raise RuntimeError(f"ncnn ended with {[status for status, _ in found]}")
        return [np.array(result)[None] for _, result in found]

    return call
