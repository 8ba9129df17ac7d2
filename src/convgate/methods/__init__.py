"""One gating method per file, and the registry that checkpoints, recipes and the command line look them up in."""

from collections.abc import Mapping
from typing import Any

from convgate.errors import InputError
from convgate.graph import Method
from convgate.methods.cgnet_weights import load_cgnet_weights
from convgate.methods.channel_gating import ChannelGating
from convgate.methods.dgnet_weights import load_dgnet_weights
from convgate.methods.dual_gating import DualGating

__all__ = [
    "METHODS",
    "ChannelGating",
    "DualGating",
    "Method",
    "create",
    "load_cgnet_weights",
    "load_dgnet_weights",
]

METHODS: dict[str, type[Method]] = {"DualGating": DualGating, "ChannelGating": ChannelGating}


def create(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """The method of that name with these options. Raises `InputError` for an unknown name or option."""
    if name not in METHODS:
        raise InputError(f"there is no method '{name}'; the methods are: {', '.join(METHODS)}")
    method = METHODS[name]
    options = dict(options or {})
    known = list(method.__dataclass_fields__)  # type: ignore[attr-defined]
    unknown = [key for key in options if key not in known]
    if unknown:
        raise InputError(f"{name} has no option {', '.join(map(repr, unknown))}; its options are: {', '.join(known)}")
    return method(**options)
