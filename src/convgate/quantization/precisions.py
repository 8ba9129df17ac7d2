"""A network as an engine has it in any of its precisions."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from convgate.engine import Engine
from convgate.engine.compile import compile as compile_engine
from convgate.engine.precision import Precision
from convgate.errors import InputError
from convgate.quantization.quantize import quantize

__all__ = ["engine_in"]


def engine_in(
    network: nn.Module | Engine,
    precision: str | None,
    batches: Iterable[Any] | None = None,
    *,
    example: Any = None,
    threads: int | None = None,
) -> Engine:
    """The engine of a network, or of an engine's program, in a precision.

    Args:
        network: a network, or an engine, in float32 where another precision is asked for.
        precision: "float32", "bf16" or "int8"; None for float32, or for that of the engine given.
        batches: images that choose the scales of integers, see `convgate.quantize`.
        example: an input of a network that has no gates, see `convgate.compile`.
        threads: how many cores; see `convgate.compile`.

    Raises:
        InputError: int8 without batches, or no such precision.
        LoweringError: a node of the network has no native form.

    """
    if precision == Precision.INT8:
        if batches is None:
            raise InputError("engine_in(precision='int8') was given no batches; give images that choose the scales")
        return quantize(network, batches, threads=threads)
    if isinstance(network, Engine):
        return Engine(network.program, precision=precision, threads=threads)
    return compile_engine(network, example, precision=precision, threads=threads)
