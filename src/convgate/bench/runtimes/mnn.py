"""MNN, in float32."""

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from convgate.bench.built import Built, Workload, by_size
from convgate.bench.runtimes.onnx_model import INPUT, export
from convgate.errors import InputError

__all__ = ["float32"]


def float32(work: Workload, threads: int) -> Built:
    """Precision "high"."""
    return Built(by_size(work, lambda images: _call(work, images, threads)))


def _call(work: Workload, images: np.ndarray, threads: int) -> Any:
    import MNN

    # The converter itself: the package's command installs another package, which reports its use.
    tools = importlib.import_module("_tools")

    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "model.onnx", Path(folder) / "model.mnn"
        given.write_bytes(export(work.dense, images))
        names = ["--modelFile", str(given), "--MNNModel", str(made), "--bizCode", "convgate"]
        tools.mnnconvert(["mnnconvert", "-f", "ONNX", *names])
        if not made.is_file():
            raise InputError("MNN did not convert the network")
        interpreter = MNN.Interpreter(str(made))
        session = interpreter.createSession({"numThread": threads, "precision": "high", "backend": "CPU"})
    source = interpreter.getSessionInput(session, INPUT)
    results = list(interpreter.getSessionOutputAll(session).values())

    def tensor(array: np.ndarray) -> Any:
        """One with a copy of the array."""
        return MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe)

    found = [tensor(np.zeros(result.getShape(), np.float32)) for result in results]

    def call(images: np.ndarray) -> list[np.ndarray]:
        source.copyFrom(tensor(images))
        interpreter.runSession(session)
        for result, to in zip(results, found, strict=True):
            result.copyToHostTensor(to)
        return [np.array(to.getNumpyData()) for to in found]

    return call
