"""Other runtimes by way of ONNX: the model is exported once per runtime and read from memory."""

import contextlib
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

__all__ = ["export", "integer_openvino_request", "onnxruntime_session", "openvino_request"]

_OPSET = 17


def export(model: nn.Module, images: np.ndarray) -> bytes:
    """The model as ONNX, for inputs of exactly this shape, norms folded into convolutions; needs the `onnx` package."""
    import onnx  # noqa: F401 -- the exporter needs it and its own complaint is obscure

    example = torch.from_numpy(images)
    model = _Leaves(model)
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # The exporter by tracing is deprecated, and its notice comes from several places. It is used all the same: it
        # needs no further package, and its graphs are those that the runtimes know best.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message=".*(onnx|constant folding).*", category=UserWarning)
        try:
            torch.onnx.export(
                model, (example,), path, opset_version=_OPSET, input_names=["images"], output_names=["output"],
                dynamo=False,
            )  # fmt: skip
            return path.read_bytes()
        except Exception:  # noqa: BLE001 -- the other exporter may do what one cannot; its error is the one raised
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model, (example,), input_names=["images"], output_names=["output"], dynamo=True, verbose=False
            )
            assert program is not None
            return program.model_proto.SerializeToString()


class _Leaves(nn.Module):
    """A network that returns its tensors one beside the other: the exporters take no mappings."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training  # which the exporter restores, in all of it

    def forward(self, x: torch.Tensor) -> Any:
        leaves = pytree.tree_leaves(self.model(x))
        return leaves[0] if len(leaves) == 1 else tuple(leaves)


def onnxruntime_session(model: nn.Module, images: np.ndarray, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` on the processor, all optimisations on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(export(model, images), options, providers=["CPUExecutionProvider"])


def openvino_request(model: nn.Module, images: np.ndarray, threads: int, precision: str | None) -> tuple[Any, str]:
    """(an `openvino.InferRequest` tuned for latency, the precision that it computes in).

    `precision` "f32" asks for float32; None leaves it to OpenVINO, which takes bfloat16 where the processor has it.
    """
    return _request(_openvino().read_model(export(model, images)), threads, precision)


def integer_openvino_request(model: nn.Module, inputs: Sequence[np.ndarray], threads: int) -> Any:
    """An `openvino.InferRequest` of 8-bit integers, whose scales NNCF takes from `inputs` after training."""
    core = _openvino()
    # Its log, which takes the stream that it finds when it is imported, and its bar would stand in what --json prints.
    with contextlib.redirect_stdout(sys.stderr):
        import nncf

        quantised = nncf.quantize(core.read_model(export(model, inputs[0])), nncf.Dataset(list(inputs)))
    return _request(quantised, threads, None)[0]


@cache
def _openvino() -> Any:
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
    compiled = _openvino().compile_model(model, "CPU", settings)
    used = compiled.get_property("INFERENCE_PRECISION_HINT")
    return compiled.create_infer_request(), str(used.get_type_name() if hasattr(used, "get_type_name") else used)
