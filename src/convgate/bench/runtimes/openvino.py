"""OpenVINO, tuned for latency: in float32, in bfloat16, as it comes, and in 8-bit integers that NNCF makes."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from torch import nn

from convgate.bench.built import Built, Workload, by_size
from convgate.bench.runtimes.onnx_model import export

__all__ = ["as_it_comes", "bf16", "float32", "int8", "request"]


def float32(work: Workload, threads: int) -> Built:
    """Asked for float32."""
    return _build(work, threads, "f32")


def bf16(work: Workload, threads: int) -> Built:
    """Asked for bfloat16."""
    return _build(work, threads, "bf16")


def as_it_comes(work: Workload, threads: int) -> Built:
    """Left to choose: bfloat16 where the processor has it."""
    return _build(work, threads, None)


def int8(work: Workload, threads: int) -> Built:
    """Quantised after training by NNCF."""

    def build(images: np.ndarray) -> Any:
        alike = [x for x in work.scales if x.shape == images.shape]
        return _call(_integer_request(work.dense, alike, threads))

    return Built(by_size(work, build), f"quantised by NNCF on {len(work.scales)} inputs")


def request(model: nn.Module, images: np.ndarray, threads: int, precision: str | None) -> tuple[Any, str]:
    """(an `openvino.InferRequest` for such images, the precision that it computes in); `precision` None: its own."""
    return _request(_core().read_model(export(model, images)), threads, precision)


def _build(work: Workload, threads: int, precision: str | None) -> Built:
    used: list[str] = []

    def build(images: np.ndarray) -> Any:
        made, precision_of_it = request(work.dense, images, threads, precision)
        used.append(precision_of_it)
        return _call(made)

    call = by_size(work, build)
    return Built(call, f"ran in {used[0]}")


def _call(made: Any) -> Any:
    def call(images: np.ndarray) -> list[np.ndarray]:
        # Sharing memory spares it two copies, as ours is spared them.
        results = made.infer([images], share_inputs=True, share_outputs=True)
        return [results[number] for number in range(len(results))]

    return call


def _integer_request(model: nn.Module, inputs: Sequence[np.ndarray], threads: int) -> Any:
    import nncf

    quantised = nncf.quantize(_core().read_model(export(model, inputs[0])), nncf.Dataset(list(inputs)))
    return _request(quantised, threads, None)[0]


@cache
def _core() -> Any:
    """The one `openvino.Core`, kept for good.

    Its plugin for processors sets a stack for signal handlers, and when it is dropped, the one that it found. Of two
    plugins that are dropped in the order in which they were made, the second sets the first one's stack, which is
    gone: the next signal that has a handler (DataLoader sets one for its workers' end) is a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _request(model: Any, threads: int, precision: str | None) -> tuple[Any, str]:
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = _core().compile_model(model, "CPU", settings)
    used = compiled.get_property("INFERENCE_PRECISION_HINT")
    return compiled.create_infer_request(), str(used.get_type_name() if hasattr(used, "get_type_name") else used)
