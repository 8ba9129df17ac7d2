"""Save and load a gated network: safetensors, with a plain-data description of model, method and plan. No pickles.

Loading builds the model by name (`convgate.models.create`), plans and gates it again, and refuses the file unless the
outcome is the network that was saved.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convgate.errors import CheckpointError, ConvgateError
from convgate.files import replacing
from convgate.graph import GatedNetwork, gate
from convgate.methods import Method, create
from convgate.models import ModelSpec
from convgate.weights import misfit

__all__ = ["load", "save"]

_KEY = "convgate"
_VERSION = 1


def save(network: GatedNetwork, path: str | Path) -> None:
    """Write a gated network to `path`, complete or not at all."""
    from safetensors.torch import save_file

    if not isinstance(network, GatedNetwork):
        raise CheckpointError(f"save() takes a GatedNetwork, not a {type(network).__name__}; make one with gate()")
    plan = network.plan
    description = {
        "version": _VERSION,
        "model": {
            "class": plan.model,
            "name": plan.spec.name if plan.spec else None,
            "options": dict(plan.spec.options) if plan.spec else {},
        },
        "method": dict(plan.method),
        "example": list(plan.example),
        "fingerprint": plan.fingerprint,
        "gates": {spec.name: [spec.kind, *spec.shape] for spec in plan.gates},
    }
    # A copy each: safetensors refuses tensors that share memory, as tied weights do.
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(description)})


def load(path: str | Path, model: nn.Module | None = None) -> GatedNetwork:
    """Read a gated network that `save` wrote; on the CPU, in evaluation mode.

    Args:
        path: the file.
        model: the ungated model, needed only where the saved one was of a class of your own. Its weights do not
            matter; it is copied, not changed.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, from a newer version, or does not fit the model.

    """
    path = Path(path)
    description, tensors = _read(path)
    try:
        version = description["version"]
        if not isinstance(version, int) or version > _VERSION:
            raise CheckpointError(
                f"{path} has format version {version}, and this convgate reads up to {_VERSION}; upgrade convgate"
            )
        method = _method(description["method"])
        if model is None:
            model = _rebuild(description["model"], path)
        example = torch.zeros([int(n) for n in description["example"]])
        # The random gates are about to be replaced: the caller's random numbers stay his.
        with torch.random.fork_rng(devices=[]):
            network = gate(model, method, example).cpu().eval()
        recorded = {name: tuple(shape) for name, shape in description["gates"].items()}
        fingerprint = description["fingerprint"]
    except CheckpointError:
        raise
    except (ConvgateError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} describes a network that cannot be built: {type(error).__name__}: {error}"
        ) from error
    planned = {spec.name: (spec.kind, *spec.shape) for spec in network.plan.gates}
    if fingerprint != network.plan.fingerprint or recorded != planned:
        raise CheckpointError(
            f"{path} holds a {description['model'].get('class')} whose layers or gates differ from those of the "
            f"{network.plan.model} built now; pass the model that was gated as load(path, model=...)"
        )
    _fill(network, tensors, path)
    return network


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 -- not a mapping
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); save the network again") from error
    try:
        description = json.loads(metadata[_KEY])
    except (KeyError, ValueError):
        raise CheckpointError(
            f"{path} is a safetensors file that convgate did not write; load its weights into the model before gating"
        ) from None
    if not isinstance(description, dict):
        raise CheckpointError(f"{path} has a damaged description; save the network again")
    return description, tensors


def _method(description: Mapping[str, Any]) -> Method:
    return create(description["name"], description["options"])


def _rebuild(description: Mapping[str, Any], path: Path) -> nn.Module:
    if description["name"] is None:
        raise CheckpointError(
            f"{path} holds a gated {description['class']}, a model that cannot be built by name; "
            "pass it as load(path, model=...)"
        )
    # The random weights are about to be replaced: the caller's random numbers stay his.
    with torch.random.fork_rng(devices=[]):
        return ModelSpec(description["name"], description["options"]).create()


def _fill(network: GatedNetwork, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    expected = network.state_dict(keep_vars=True)
    problem = misfit(expected, tensors)
    if problem:
        raise CheckpointError(f"{path} does not fit the network that it describes ({problem}); save the network again")
    for key, tensor in expected.items():
        tensor.data = tensor.data.to(tensors[key].dtype)  # a network may have been saved in float64 or bfloat16
    network.load_state_dict(dict(tensors))
