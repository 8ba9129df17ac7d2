"""What an engine, and whatever else runs a program, takes as images."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from convgate.engine.program import Program
from convgate.errors import InputError

__all__ = ["checked_inputs", "require_finite"]


def checked_inputs(program: Program, images: Sequence[npt.ArrayLike]) -> list[np.ndarray]:
    """The arrays of a program's inputs, each float32 [N, C, H, W] and contiguous.

    Raises `InputError` for another number of inputs than the program has, for batches of different lengths or without
    images, and for arrays of another type or number of channels. Their heights and widths may be any.
    """
    if len(images) != len(program.inputs):
        raise InputError(f"the engine was given {len(images)} inputs; this network takes {len(program.inputs)}")
    arrays = []
    for array, name in zip(images, program.inputs, strict=True):
        value = program.value(name)
        try:
            converted = np.asarray(array)
        except (RuntimeError, TypeError, ValueError) as error:  # tensors that train, on a GPU, of bfloat16; lists
            raise InputError(
                f"the engine was given a {type(array).__name__} that is no array ({error}); of a tensor give "
                "images.detach().cpu().float()"
            ) from None
        if converted.ndim != 4 or converted.shape[1] != value.channels or 0 in converted.shape:
            raise InputError(
                f"the engine was given an input of shape {list(converted.shape)}; it was compiled for "
                f"[N, {', '.join(map(str, value.shape))}], N >= 1"
            )
        if converted.dtype != np.float32:
            raise InputError(
                f"the engine was given an input of {converted.dtype}; it takes float32: images.astype('float32'), "
                "scaled and normalised as in training"
            )
        arrays.append(np.ascontiguousarray(converted))
    if len(arrays) > 1 and len({len(array) for array in arrays}) > 1:
        raise InputError(f"the inputs are batches of {', '.join(str(len(a)) for a in arrays)}; make them equally many")
    return arrays


def require_finite(arrays: Iterable[np.ndarray]) -> None:
    """Raise `InputError`, as the native runtime does, for values that are not finite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError("the engine refuses its input: the input holds values that are not finite")
