"""The words of what cannot be captured: which operation, where in the model's code, and what to do."""

import os
import sys
import traceback
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn

from convgate.errors import TraceError
from convgate.reading.values import Values

__all__ = ["data_dependent", "drawn", "fails", "refused", "unreadable", "within_checkpoint"]

_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep
_CHECKPOINT = os.path.join(_TORCH, "utils", "checkpoint.py")


def unreadable(module: nn.Module, tracer: fx.Tracer, error: Exception) -> TraceError:
    """The error that says where in the model's code `error` was raised."""
    trail = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in trail if not frame.filename.startswith((_TORCH, _HERE))]
    place = f"{users[-1].filename}:{users[-1].lineno}" if users else "an unknown place"
    return TraceError(
        f"{type(module).__name__} cannot be read {_after(tracer)}, at {place}: {type(error).__name__}: "
        f"{_first_line(error)}. Move what happens there into a sub-module without convolutions, or gate the part of "
        "the model that can be read"
    )


def refused(tracer: fx.Tracer, what: str, *, tensors: bool) -> TraceError:
    """The error that the running line of the model's code does `what`; `tensors` adds what to do with values."""
    remedy = (
        ". A graph cannot carry that: compute it with tensor operations (torch.where, a product with a mask), move "
        "it into a sub-module without convolutions, or gate the part of the model that can be read"
    )
    what = f"{what}{remedy}" if tensors else what
    return TraceError(f"{type(tracer.root).__name__} cannot be read {_after(tracer)}: {_user_place()} {what}")


def data_dependent(tracer: fx.Tracer, target: Any) -> TraceError:
    """The error that what an operation returns has a shape that values decide."""
    what = "depends on values that are not known yet"
    return refused(tracer, f"calls {_called(target)}, whose result {what}", tensors=True)


def fails(
    tracer: fx.Tracer, values: Values, kind: str, target: Any, args: Any, kwargs: Any, error: Exception
) -> TraceError:
    """The error that an operation does not run on what it is given."""
    shapes: list[str] = []

    def note(node: fx.Node) -> fx.Node:
        value = values[node]
        if isinstance(value, Tensor) and node.op != "get_attr":
            shapes.append(str(list(value.shape)))
        return node

    fx.node.map_arg((args, kwargs), note)
    name = tracer.graph._target_to_str(target)
    return TraceError(
        f"node '{name}' ({kind} {_called(target)}) at {_user_place()} fails on the example (its inputs: "
        f"{', '.join(shapes) or 'none'}): {type(error).__name__}: {_first_line(error)}. Give an example of the "
        "shape that the model expects"
    )


def drawn(who: str, library: str) -> TraceError:
    """The error that reading would freeze a random draw."""
    return TraceError(
        f"the forward of {who} draws from {library} while it is read; the graph would repeat this one draw forever. "
        "Use a module that draws when it runs (timm's DropPath, torchvision's StochasticDepth, nn.Dropout)"
    )


def within_checkpoint(capture: CodeType) -> bool:
    """Whether the module that is called, below the function `capture`, runs again in the backward pass."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not capture:
        if frame.f_code.co_filename == _CHECKPOINT:
            return True
        frame = frame.f_back
    return False


def _after(tracer: fx.Tracer) -> str:
    nodes = list(tracer.graph.nodes) if hasattr(tracer, "graph") else []
    return f"after node '{nodes[-1].name}'" if nodes else "at all"


def _called(target: Any) -> str:
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _user_place() -> str:
    """File and line of the model's code that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((_TORCH, _HERE)):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "an unknown place"
