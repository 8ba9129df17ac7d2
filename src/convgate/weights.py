"""Weights from files and other code: do they fit, and if not, what is wrong."""

from collections.abc import Callable, Mapping
from pathlib import Path

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
    """Load a safetensors file into an ungated model, in place; `rename` replaces prefixes of the file's keys.

    Raises `CheckpointError` when the file is missing, damaged, or does not fit.
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
    """The tensors of a safetensors file. Raises `CheckpointError` when it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.is_floating_point() == b.is_floating_point()
