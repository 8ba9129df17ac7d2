"""Weights from files and other code: do they fit, and if not, what is wrong."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from convgate.errors import CheckpointError

__all__ = ["load_weights", "misfit", "read_tensors"]


def misfit(
    expected: Mapping[str, Tensor], given: Mapping[str, Tensor], optional: Callable[[str], bool] = lambda key: False
) -> str | None:
    """What keeps `given` from being loaded where `expected` is the state dict, in words; None if nothing does.

    Keys must be the same (but for `optional` ones, which may be missing), and tensors of the same shape and kind (float
    or integer).
    """
    missing = sorted(key for key in expected.keys() - given.keys() if not optional(key))
    unknown = sorted(given.keys() - expected.keys())
    other = sorted(key for key in expected.keys() & given.keys() if not _alike(expected[key], given[key]))
    found = {"missing": missing, "unknown": unknown, "other shape or type": other}
    parts = [f"{what}: {', '.join(keys[:4])}{', ..' if len(keys) > 4 else ''}" for what, keys in found.items() if keys]
    return "; ".join(parts) or None


def load_weights(model: nn.Module, path: str | Path, rename: Mapping[str, str]) -> None:
    """Load a file of weights (see `read_tensors`) into an ungated model, in place.

    `rename` replaces prefixes of the file's keys. Raises `CheckpointError` when the file is missing, damaged, or does
    not fit.
    """
    tensors = read_tensors(path)
    for old, new in rename.items():
        tensors = {new + key.removeprefix(old) if key.startswith(old) else key: t for key, t in tensors.items()}
    # Batch norm's counters: nothing depends on them where the momentum is fixed, and some exports leave them out.
    problem = misfit(model.state_dict(), tensors, optional=lambda key: key.endswith("num_batches_tracked"))
    if problem:
        raise CheckpointError(f"{path} does not fit {type(model).__name__} ({problem}); `rename` replaces prefixes")
    model.load_state_dict(tensors, strict=False)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a state dict that `torch.save` wrote (.pt, .pth).

    Of the latter nothing but tensors and plain containers is unpickled. A mapping under "state_dict" or "model" in it
    is taken for the state dict, and "module.", which DataParallel puts before each name, is left out. Raises
    `CheckpointError` when the file is missing, damaged, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")
    try:
        return _read_saved(path) if path.suffix in (".pt", ".pth") else load_file(path)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is damaged or no safetensors file: {error}. Files of torch.save end in .pt or .pth"
        ) from error


def _read_saved(path: Path) -> dict[str, Tensor]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file may raise almost anything; what is not plain data is an UnpicklingError.
    except Exception as error:
        raise CheckpointError(f"{path} is damaged, or holds more than tensors: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(saved, Mapping) and isinstance(saved.get(key), Mapping):
            saved = saved[key]
    if not isinstance(saved, Mapping) or not all(isinstance(value, Tensor) for value in saved.values()):
        raise CheckpointError(f"{path} holds no state dict; save model.state_dict()")
    return {key.removeprefix("module."): value for key, value in saved.items()}


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.is_floating_point() == b.is_floating_point()
