"""A network as ONNX, for the runtimes that read it."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

__all__ = ["INPUT", "export"]

INPUT = "images"
"""What its input is called."""

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
                model, (example,), path, opset_version=_OPSET, input_names=[INPUT], output_names=["output"],
                dynamo=False,
            )  # fmt: skip
            return path.read_bytes()
        except Exception:  # noqa: BLE001 -- the other exporter may do what one cannot; its error is the one raised
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model, (example,), input_names=[INPUT], output_names=["output"], dynamo=True, verbose=False
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
