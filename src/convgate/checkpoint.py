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
from convgate.gated import GatedNetwork, gate
from convgate.methods import Method, create
from convgate.models import ModelSpec
from convgate.weights import misfit

__all__ = ["load", "save"]

_KEY = "convgate"
_VERSION = 1
_LARGEST = 2**14
# Images are no larger than this; a file that says so is damaged or meant to exhaust memory.


def save(network: GatedNetwork, path: str | Path) -> None:
    """Write a gated network to `path`, complete or not at all."""
    from safetensors.torch import save_file

    if not isinstance(network, GatedNetwork):
        raise CheckpointError(f"save() takes a GatedNetwork, not a {type(network).__name__}; make one with gate()")
    plan = network.plan
    description = {
        "version": _VERSION,
        "torch": str(torch.__version__),
        "model": {
            "class": plan.model,
            "name": plan.spec.name if plan.spec else None,
            "options": dict(plan.spec.options) if plan.spec else {},
        },
        "method": dict(plan.method),
        "example": list(plan.example),
        "fingerprint": plan.fingerprint,
        "gates": {spec.name: [str(spec.kind), *spec.shape] for spec in plan.gates},
    }
    # A copy each: safetensors refuses tensors that share memory, as tied weights do.
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(description)})


def load(path: str | Path, model: nn.Module | None = None, method: Method | None = None) -> GatedNetwork:
    """Read a gated network that `save` wrote; on the CPU, in evaluation mode.

    Args:
        path: the file.
        model: the ungated model, needed only where the saved one was of a class of your own. Its weights do not
            matter; it is copied, not changed.
        method: the method, needed only where one of your own or one with a module of your own among its options was
            used. Its options are taken as they are here.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, from a newer version, or does not fit the model.

    """
    path = Path(path)
    description, tensors = _read(path)
    if model is None:
        model = _rebuild(description, path)
    example = torch.zeros(description["example"])
    try:
        if method is None:
            method = create(description["method"]["name"], description["method"]["options"])
        # The random gates are about to be replaced: the caller's random numbers stay his.
        with torch.random.fork_rng(devices=[]):
            network = gate(model, method, example).cpu().eval()
    except (ConvgateError, TypeError) as error:
        raise CheckpointError(f"{path} describes a network that cannot be gated: {error}") from error
    recorded = {name: tuple(shape) for name, shape in description["gates"].items()}
    planned = {spec.name: (str(spec.kind), *spec.shape) for spec in network.plan.gates}
    if description["fingerprint"] != network.plan.fingerprint or recorded != planned:
        raise CheckpointError(
            f"{path} holds a {description['model']['class']} whose layers or gates differ from those of the "
            f"{network.plan.model} built now; pass the model that was gated as load(path, model=...). The file was "
            f"written with torch {description['torch']}, this is {torch.__version__}: another version may trace a "
            "model differently"
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
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file that convgate did not write; load its weights into the model before gating"
        )
    try:
        description = json.loads(metadata[_KEY])
        version = description["version"]
        if isinstance(version, int) and version > _VERSION:
            raise CheckpointError(
                f"{path} has format version {version}, and this convgate reads version {_VERSION}; upgrade convgate"
            )
        return _check(description), tensors
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged description ({error}); save the network again") from error


def _check(description: Any) -> dict[str, Any]:
    """The description, if it has the fields and kinds of values that `save` writes; else ValueError and the like."""
    if description["version"] != _VERSION:
        raise ValueError(f"format version {description['version']!r}")
    for field, kind in (("model", dict), ("method", dict), ("gates", dict), ("example", list), ("fingerprint", str)):
        if not isinstance(description[field], kind):
            raise ValueError(f"'{field}' is no {kind.__name__}")
    for part in ("model", "method"):
        if not isinstance(description[part]["options"], dict):
            raise ValueError(f"the options of '{part}' are no mapping")
    sizes = description["example"]
    if len(sizes) != 4 or not all(isinstance(n, int) and 0 < n <= _LARGEST for n in sizes):
        raise ValueError(f"the example's shape is {sizes}")
    description.setdefault("torch", "of an unknown version")
    for part, field in (("model", "class"), ("model", "name"), ("method", "name")):
        if not isinstance(description[part][field], str | None):
            raise ValueError(f"the {field} of '{part}' is no text")
    return description


def _rebuild(description: Mapping[str, Any], path: Path) -> nn.Module:
    recorded = description["model"]
    if recorded["name"] is None:
        raise CheckpointError(
            f"{path} holds a gated {recorded['class']}, a model that cannot be built by name; "
            "pass it as load(path, model=...)"
        )
    try:
        # The random weights are about to be replaced, too.
        with torch.random.fork_rng(devices=[]):
            return ModelSpec(str(recorded["name"]), recorded["options"]).create()
    except (ConvgateError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} describes a model that cannot be built: {error}") from error


def _fill(network: GatedNetwork, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    expected = network.state_dict(keep_vars=True)
    problem = misfit(expected, tensors)
    if problem:
        raise CheckpointError(f"{path} does not fit the network that it describes ({problem}); save the network again")
    for key, tensor in expected.items():
        tensor.data = tensor.data.to(tensors[key].dtype)  # a network may have been saved in float64 or bfloat16
    network.load_state_dict(dict(tensors))
