"""Save and load a gated network: safetensors, with a plain-data description of model, method and plan. No pickles.

Loading builds the model by name (`convgate.models.create`), plans and gates it again, and refuses the file unless the
result means the same: tensors of the same names and shapes, the same gates, the same MACs in every layer. How torch
traced the model is recorded, too, but only a warning comes of it: another version may name nodes differently.

Versions of the format: 2 keeps what is not the model's under `convgate.`; 1 kept it under `gates.`, and had an offset
for each tile. Both are read.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convgate.errors import CheckpointError, ConvgateError
from convgate.files import PROGRAM_KEY, replacing
from convgate.gated import GATES, OURS, PATHS, TRUNK, GatedModel, GatedNetwork, gate, place_in
from convgate.gated.given import given_network
from convgate.methods import Method, create
from convgate.models import ModelSpec
from convgate.preparation import Preparation
from convgate.weights import misfit

__all__ = ["load", "require_gated", "save"]

_KEY = "convgate"
_VERSION = 2
_LARGEST = 2**14
# Images are no larger than this; a file that says so is damaged or meant to exhaust memory.
_SPREAD = 0.02
# Calibration under version 1 set the tiles of one gate apart by less than this.

_FOREIGN = (
    "is a safetensors file that convgate did not write, plain weights perhaps; load them into the model before gating, "
    "or give them to convgate finetune or train as --weights"
)

_ENGINE = (
    "is an engine's file (.cgm), which runs as it is (convgate.engine.load, convgate predict); give the network's own, "
    "net.safetensors"
)

_log = logging.getLogger(__name__)


def save(network: nn.Module, path: str | Path) -> None:
    """Write a gated network to `path`, complete or not at all; of one in `DataParallel` and the like, what is inside.

    `network.preparation` is saved with it, if it is set. Extra state of modules (`get_extra_state`) is saved where it
    is a tensor or plain data. Tied weights are written once per name, and are tied again in the model that is built on
    loading.

    Raises:
        InputError: not a gated network, or one on the meta device.
        CheckpointError: options of its method or extra state that are not plain data.

    """
    from safetensors.torch import save_file

    network = given_network(network, "save")
    plan = network.plan
    tensors, extra = _parted(network.state_dict())
    tensors = {_moved(key, place_in(network), OURS): value for key, value in tensors.items()}
    description = {
        "version": _VERSION,
        "torch": str(torch.__version__),
        "model": {
            "class": plan.model,
            "name": plan.spec.name if plan.spec else None,
            "options": dict(plan.spec.options) if plan.spec else {},
        },
        "method": dict(plan.method),
        "example": [1, *plan.example[1:]],
        "fingerprint": plan.fingerprint,
        "gates": {spec.name: [str(spec.kind), *spec.shape] for spec in plan.gates},
        "layers": {layer.name: layer.macs for layer in plan.ledger.layers},
        "extra": extra,
    }
    if isinstance(network, GatedModel):
        description["lists"] = True
        description["inside"] = list(network.inside)
    preparation = getattr(network, "preparation", None)
    if preparation is not None:
        if not isinstance(preparation, Preparation):
            raise CheckpointError(
                f"network.preparation is a {type(preparation).__name__}; set a convgate.Preparation, or None"
            )
        description["preparation"] = preparation.as_data()
    for what in ("model", "method", "extra"):
        _require_plain(what, description[what])
    # A copy each: safetensors refuses tensors that share memory, as tied weights do.
    copies = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(copies, temporary, metadata={_KEY: json.dumps(description)})


def load(
    path: str | Path,
    model: nn.Module | None = None,
    method: Method | None = None,
    *,
    unnamed: Callable[[], nn.Module] | None = None,
) -> Any:
    """Read a gated network that `save` wrote, a `GatedNetwork` or `GatedModel`; on the CPU, in evaluation mode.

    Args:
        path: the file.
        model: the ungated model, needed only where the saved one was of a class of your own. Its weights do not
            matter; it is copied, not changed.
        method: the method, needed only where one of your own or one with a module of your own among its options was
            used. Its options are taken as they are here.
        unnamed: makes the ungated model where the file does not name it and `model` is not given.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, from a newer version, or does not fit the model.

    """
    path = Path(path)
    description, tensors = _read(path)
    if model is None:
        model = _rebuild(description, path, unnamed)
    # One image, and no memory for it: what a damaged file says of its size costs nothing.
    example: Any = torch.zeros(1).expand(1, *description["example"][1:])
    if description["lists"]:  # a detector, which makes the same batch of an image of that size
        example = [example[0]]
    try:
        if method is None:
            method = create(description["method"]["name"], description["method"]["options"])
        # The random gates are about to be replaced: loading does not advance the caller's random state.
        with torch.random.fork_rng(devices=[]):
            network = gate(model, method, example, inside=description["inside"]).cpu().eval()
    except (ConvgateError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} describes a network that cannot be gated: {error}") from error
    _require_same(description, network, path)
    _fill(network, tensors, description["extra"], path)
    if isinstance(network, GatedNetwork):
        network.preparation = description.get("preparation")
    return network


def require_gated(path: str | Path) -> None:
    """Raise `CheckpointError` for a safetensors file that does not hold a gated network but, say, plain weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return  # missing or damaged: whoever reads it says so
    if _KEY not in metadata:
        raise CheckpointError(f"{path} {_of_others(metadata)}")


def _of_others(metadata: Mapping[str, str]) -> str:
    """What a file is that has no network in it."""
    return _ENGINE if PROGRAM_KEY in metadata else _FOREIGN


def _moved(key: str, old: str, new: str) -> str:
    """The key with its first part `new` where it is `old`: files always call the gates `OURS`."""
    first, dot, rest = key.partition(".")
    return f"{new}.{rest}" if dot and first == old else key


def _parted(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a state dict, and what modules put there besides (`get_extra_state`)."""
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    return tensors, {key: value for key, value in state.items() if not isinstance(value, Tensor)}


def _require_plain(what: str, value: Any) -> None:
    """Raise `CheckpointError` unless `value` comes back from JSON as it is (tuples as lists, keys as text)."""
    try:
        json.dumps(value, allow_nan=what != "extra")
    except (TypeError, ValueError, RecursionError) as error:
        means = {"method": "an option of the method", "model": "an option of the model", "extra": "extra state"}[what]
        raise CheckpointError(
            f"the network cannot be saved: {means} is not plain data ({error}); files hold numbers, texts, lists and "
            "mappings of these. Save network.state_dict() yourself, and gate the model again to load it"
        ) from error
    if what == "extra" and json.loads(json.dumps(value)) != value:
        raise CheckpointError(
            "the network cannot be saved: extra state holds tuples or keys that are not text, which would come back "
            "as lists and texts; use lists and text in get_extra_state()"
        )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
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
        raise CheckpointError(f"{path} {_of_others(metadata)}")
    try:
        description = json.loads(metadata[_KEY])
        version = description["version"]
        if isinstance(version, int) and version > _VERSION:
            raise CheckpointError(
                f"{path} has format version {version}, and this convgate reads versions up to {_VERSION}; upgrade "
                "convgate"
            )
        if version == 1 and not isinstance(version, bool):
            _bring_up(description)
            tensors = {_renamed(key): tensor for key, tensor in tensors.items()}
        return _check(description), tensors
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged description ({error}); save the network again") from error


def _bring_up(description: dict[str, Any]) -> None:
    """Make the description of a file of version 1 one of version 2, in place. It has no MACs to compare."""
    description |= {"version": 2, "layers": None, "extra": {}}


def _renamed(key: str) -> str:
    """The name in version 2 of a tensor in version 1."""
    first, _, name = key.partition(".")
    if first != "gates":
        return key
    if name.startswith("shared_trunk."):
        return f"{TRUNK}.{name.removeprefix('shared_trunk.')}"
    if ".base_norm." in name:
        gate_name, _, tensor = name.partition(".base_norm.")
        return f"{PATHS}.{gate_name.rpartition('.')[0]}.base_norm.{tensor}"
    return f"{GATES}.{name}"


_FIELDS = {
    "model": dict,
    "method": dict,
    "gates": dict,
    "layers": dict | None,
    "extra": dict,
    "example": list,
    "fingerprint": str,
}


def _check(description: Any) -> dict[str, Any]:
    """The description, if it has the fields and kinds of values that `save` writes; else ValueError and the like."""
    if description["version"] != _VERSION:
        raise ValueError(f"format version {description['version']!r}")
    for field, kind in _FIELDS.items():
        if not isinstance(description[field], kind):
            raise ValueError(f"'{field}' is a {type(description[field]).__name__}")
    for part in ("model", "method"):
        if not isinstance(description[part]["options"], dict):
            raise ValueError(f"the options of '{part}' are not a mapping")
    for part, field in (("model", "class"), ("model", "name"), ("method", "name")):
        if not isinstance(description[part][field], str | None):
            raise ValueError(f"the {field} of '{part}' is not text")
    sizes = description["example"]
    if len(sizes) != 4 or not all(_is_count(n) and 0 < n <= _LARGEST for n in sizes):
        raise ValueError(f"the example's shape is {sizes}")
    for name, recorded in description["gates"].items():
        if not isinstance(recorded, list) or not recorded or not all(map(_is_count, recorded[1:])):
            raise ValueError(f"gate '{name}' is described as {recorded!r}")
    for name, macs in (description["layers"] or {}).items():
        if not _is_count(macs):
            raise ValueError(f"the MACs of layer '{name}' are {macs!r}")
    if "preparation" in description:
        description["preparation"] = Preparation.from_data(description["preparation"])
    if not isinstance(description.setdefault("lists", False), bool):
        raise ValueError(f"'lists' is a {type(description['lists']).__name__}")
    inside = description.setdefault("inside", [])
    if not isinstance(inside, list) or not all(isinstance(name, str) for name in inside):
        raise ValueError(f"'inside' is {inside!r}")
    if not isinstance(description.setdefault("torch", "of an unknown version"), str):
        raise ValueError("the version of torch is not text")
    return description


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require_same(description: Mapping[str, Any], network: GatedNetwork | GatedModel, path: Path) -> None:
    """Raise `CheckpointError` unless the network has the gates and the layers that the file describes."""
    plan = network.plan
    gates = {spec.name: [str(spec.kind), *spec.shape] for spec in plan.gates}
    layers = {layer.name: layer.macs for layer in plan.ledger.layers}
    different = _difference(description["gates"], gates, "gate")
    if different is None and description["layers"] is not None:
        different = _difference(description["layers"], layers, "layer")
    if different:
        raise CheckpointError(
            f"{path} holds a {description['model']['class']} whose layers or gates differ from those of the "
            f"{plan.model} built now ({different}); pass the model that was gated as load(path, model=...)"
        )
    if description["fingerprint"] != plan.fingerprint:
        _log.warning(
            "%s: gates, MACs and shapes fit, but the model was traced differently when it was saved (torch %s; this is "
            "%s). If its code has changed since, outputs may differ",
            path,
            description["torch"],
            torch.__version__,
        )


def _difference(recorded: Mapping[str, Any], planned: Mapping[str, Any], what: str) -> str | None:
    """The first difference between what a file says of gates or layers and what they are, in words."""
    for name in recorded.keys() | planned.keys():
        if recorded.get(name) != planned.get(name):
            return f"{what} '{name}': {recorded.get(name, 'absent')} in the file, {planned.get(name, 'absent')} now"
    return None


def _rebuild(description: Mapping[str, Any], path: Path, unnamed: Callable[[], nn.Module] | None) -> nn.Module:
    recorded = description["model"]
    if recorded["name"] is None and unnamed is not None:
        with torch.random.fork_rng(devices=[]):
            return unnamed()
    if recorded["name"] is None:
        raise CheckpointError(
            f"{path} holds a gated {recorded['class']}, a model that cannot be built by name; "
            "pass it as load(path, model=...), or name it on the command line: --architecture package.module:function"
        )
    try:
        # The random weights are about to be replaced, too.
        with torch.random.fork_rng(devices=[]):
            return ModelSpec(str(recorded["name"]), recorded["options"]).create()
    except (ConvgateError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} describes a model that cannot be built: {error}") from error


def _fill(
    network: GatedNetwork | GatedModel, tensors: Mapping[str, Tensor], extra: Mapping[str, Any], path: Path
) -> None:
    expected, own_extra = _parted(network.state_dict(keep_vars=True))
    place = place_in(network)
    tensors = {_moved(key, OURS, place): tensor for key, tensor in tensors.items()}
    tensors = {key: _one_offset(key, tensor, expected, path) for key, tensor in tensors.items()}
    problem = misfit(expected, tensors)
    if problem is None and extra.keys() != own_extra.keys():
        problem = f"extra state of other modules: {', '.join(sorted(extra.keys() ^ own_extra.keys()))}"
    if problem:
        raise CheckpointError(f"{path} does not fit the network that it describes ({problem}); save the network again")
    for key, tensor in expected.items():
        tensor.data = tensor.data.to(tensors[key].dtype)  # a network may have been saved in float64 or bfloat16
    try:
        network.load_state_dict({**tensors, **extra})
    except Exception as error:  # a module's set_extra_state may raise anything
        raise CheckpointError(f"{path} does not fit the network that it describes ({error})") from error


def _one_offset(key: str, tensor: Tensor, expected: Mapping[str, Tensor], path: Path) -> Tensor:
    """The offset of a gate of tiles: one for all tiles, where version 1 had one for each."""
    ours = expected.get(key)
    if ours is None or not key.endswith(".offset"):
        return tensor
    if tensor.dim() != 3 or tensor.shape[0] != ours.shape[0] or tensor.shape == ours.shape or not tensor.numel():
        return tensor
    if float(tensor.max() - tensor.min()) > _SPREAD:
        raise CheckpointError(
            f"{path} has an offset for each tile ({key}), set by hand; a gate has one for all of its tiles. Calibrate "
            "the network under the version that wrote it, and save it again"
        )
    if bool((tensor != tensor.flatten()[0]).any()):
        _log.warning("%s: %s, one for each tile, becomes their mean; calibrate the network again", path, key)
    return tensor.mean((1, 2), keepdim=True) if bool((tensor != tensor.flatten()[0]).any()) else tensor[:, :1, :1]
