"""ONNX Runtime, in float32 and in 8-bit integers, on the processor."""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from convgate.bench.built import Built, Workload, by_size
from convgate.bench.runtimes.onnx_model import INPUT, export

__all__ = ["float32", "int8", "session"]


def float32(work: Workload, threads: int) -> Built:
    """All optimisations on."""
    return Built(by_size(work, lambda images: _call(session(work.dense, images, threads))))


def int8(work: Workload, threads: int) -> Built:
    """Quantised after training, in the form that it recommends: QDQ, weights for each channel, maps without a sign."""

    def build(images: np.ndarray) -> Any:
        alike = [x for x in work.scales if x.shape == images.shape]
        return _call(_session(_quantised(export(work.dense, images), alike), threads))

    return Built(by_size(work, build), f"quantised by it on {len(work.scales)} inputs")


def session(model: nn.Module, images: np.ndarray, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` of the model for such images."""
    return _session(export(model, images), threads)


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _call(made: Any) -> Any:
    return lambda images: made.run(None, {INPUT: images})


def _quantised(model: bytes, inputs: Sequence[np.ndarray]) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[np.ndarray] = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(self.left, None)
            return None if images is None else {INPUT: images}

    with tempfile.TemporaryDirectory() as folder, _quietly():
        given, prepared, made = (Path(folder) / f"{name}.onnx" for name in ("given", "prepared", "made"))
        given.write_bytes(model)
        quant_pre_process(given, prepared)
        quantize_static(
            prepared, made, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return made.read_bytes()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without its advice, which goes to the root logger."""
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
