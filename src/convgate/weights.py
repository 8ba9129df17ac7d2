"""Weights from files and other code: do they fit, and if not, what is wrong."""

import logging
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convgate.errors import CheckpointError

__all__ = ["load_weights", "misfit", "read_tensors"]

_log = logging.getLogger(__name__)


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


def load_weights(model: nn.Module, path: str | Path, rename: Mapping[str, str] | None = None) -> None:
    """Load a file of weights (see `read_tensors`) into an ungated model, in place.

    Args:
        model: the model. Its own keys decide whether a prefix such as "module." is a wrapper's or belongs to it.
        path: the file.
        rename: prefixes of the file's keys -> what replaces them, e.g. {"linear.": "fc."}.

    Raises:
        CheckpointError: the file is missing, damaged, holds something else, or does not fit the model.

    """
    expected = model.state_dict()
    given = _read(Path(path))
    unwrapped = _unwrapped(given)

    def optional(key: str) -> bool:
        # Batch norm's counters: nothing depends on them where the momentum is fixed, and some exports lack them.
        return key.endswith("num_batches_tracked")

    # What fits is told by the keys: as they are, without wrappers, or without the name of a module that held the model.
    for tensors in (given, unwrapped, _without_first_name(unwrapped)):
        renamed = _renamed(tensors, rename or {})
        if misfit(expected, renamed, optional=optional) is None:
            model.load_state_dict(renamed, strict=False)
            return
    problem = misfit(expected, _renamed(unwrapped, rename or {}), optional=optional)
    raise CheckpointError(
        f"{path} does not fit {type(model).__name__} ({problem}); rename (--rename, model.rename in a recipe) "
        "replaces prefixes of the file's names"
    )


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a file of weights: safetensors, or what `torch.save` wrote. The name of the file does not matter.

    Nothing in the file is executed: beside tensors only plain containers are read. A state dict may lie inside a
    training checkpoint, under one of the usual names; averaged weights (`state_dict_ema`, `model_ema`) come before the
    others, as in timm, and what was taken is logged. Prefixes that DataParallel ("module.") and `torch.compile`
    ("_orig_mod.") put before every name are left out.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else.

    """
    return _unwrapped(_read(Path(path)))


_ENTRIES = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "module",
)
# Where training code keeps the state dict in a checkpoint, averaged weights first.
_WRAPPERS = ("module.", "_orig_mod.")
_COUNTER = "n_averaged"
# What `torch.optim.swa_utils.AveragedModel` keeps beside its "module.".


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors under the names that the file has."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the file of weights in it")
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")
    with path.open("rb") as file:
        start = file.read(64)
    # First, because the length may begin as a pickle does, with the byte 80: one file of 32 does.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:  # the header's length
        return _safetensors(path)
    if start.startswith((b"PK\x03\x04", b"\x80")):  # a zip archive; a pickle, as torch.save wrote before 1.6
        return _state_dict(_saved(path), path)
    if start[8:9] == b"{":  # cut off
        return _safetensors(path)
    raise CheckpointError(f"{path} is damaged or not a file of weights: {_guess(start)}")


def _guess(start: bytes) -> str:
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file itself with git lfs pull"
    if start.lstrip()[:1] == b"<":
        return "it is a web page; the download went wrong"
    return "it is neither safetensors nor written by torch.save"


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error


def _saved(path: Path) -> Any:
    try:
        # Open, because torch.load goes by the suffix of a path.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        told = [line.strip() for line in str(error).splitlines() if "Unsupported" in line or "WeightsUnpickler" in line]
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors and plain data, which could run code. {' '.join(told[:1])} "
            "Save the state dict alone: torch.save(model.state_dict(), ..); or, if you trust the file, take it out: "
            "torch.save(torch.load(.., weights_only=False)['state_dict'], ..)"
        ) from error
    except Exception as error:  # a damaged file may raise almost anything
        raise CheckpointError(f"{path} is damaged, or was not written by torch.save: {error}") from error


def _state_dict(saved: Any, path: Path) -> dict[str, Tensor]:
    entry = saved
    taken: list[str] = []
    while isinstance(entry, Mapping) and not _is_state_dict(entry):
        key = next((key for key in _ENTRIES if isinstance(entry.get(key), Mapping)), None)
        if key is None:
            break
        taken.append(key)
        entry = entry[key]
    if not isinstance(entry, Mapping) or not _is_state_dict(entry):
        what = (
            f"a mapping of {', '.join(map(str, list(entry)[:6]))}"
            if isinstance(entry, Mapping)
            else type(entry).__name__
        )
        raise CheckpointError(f"{path} holds no state dict but {what}; save model.state_dict()")
    if taken:
        _log.info("%s: the weights under %s", path, ".".join(taken))
    return dict(entry)


def _is_state_dict(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without wrappers' prefixes: those that every name begins with."""
    tensors = dict(tensors)
    while True:
        named = {key: tensor for key, tensor in tensors.items() if key != _COUNTER}
        prefix = next((p for p in _WRAPPERS if named and all(key.startswith(p) for key in named)), None)
        if prefix is None:
            return tensors
        tensors = {key.removeprefix(prefix): tensor for key, tensor in named.items()}


def _without_first_name(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the first part of their names, where it is one and the same ("model.", as Lightning has)."""
    first = {key.partition(".")[0] for key in tensors}
    return {key.partition(".")[2]: tensor for key, tensor in tensors.items()} if len(first) == 1 else dict(tensors)


def _renamed(tensors: Mapping[str, Tensor], rename: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = dict(tensors)
    for old, new in rename.items():
        renamed = {new + key.removeprefix(old) if key.startswith(old) else key: t for key, t in renamed.items()}
    return renamed


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.is_floating_point() == b.is_floating_point()
