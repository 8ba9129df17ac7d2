"""One gating method per file, and the registry that checkpoints, recipes and the command line look them up in."""

from collections.abc import Mapping
from typing import Any

from convgate.errors import InputError
from convgate.gated import Method
from convgate.methods.batch_shaping import BatchShaping
from convgate.methods.cgnet_weights import load_cgnet_weights
from convgate.methods.channel_gating import ChannelGating
from convgate.methods.combined import Combined
from convgate.methods.dgnet_weights import load_dgnet_weights
from convgate.methods.dual_gating import DualGating
from convgate.methods.global_gater import GlobalGater, load_gater_weights
from convgate.methods.layer_skipping import LayerSkipping

__all__ = [
    "METHODS",
    "BatchShaping",
    "ChannelGating",
    "Combined",
    "DualGating",
    "GlobalGater",
    "LayerSkipping",
    "Method",
    "create",
    "load_cgnet_weights",
    "load_dgnet_weights",
    "load_gater_weights",
    "option_names",
]

METHODS: dict[str, type[Method]] = {
    method.__name__: method
    for method in (DualGating, ChannelGating, GlobalGater, BatchShaping, LayerSkipping, Combined)
}


def create(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """The method of that name with these options. Raises `InputError` for an unknown name or option."""
    known = option_names(name)
    options = dict(options or {})
    unknown = [key for key in options if key not in known]
    if unknown:
        raise InputError(f"{name} has no option {', '.join(map(repr, unknown))}; its options are: {', '.join(known)}")
    return METHODS[name](**options)


def option_names(name: str) -> list[str]:
    """The options of the method of that name. Raises `InputError` for an unknown one."""
    if name not in METHODS:
        raise InputError(f"there is no method '{name}'; the methods are: {', '.join(METHODS)}")
    return list(METHODS[name].__dataclass_fields__)  # type: ignore[attr-defined]
