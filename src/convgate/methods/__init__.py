"""One gating method per file, and the registry in which they are looked up."""

from convgate.gated import Method
from convgate.methods.batch_shaping import BatchShaping
from convgate.methods.cgnet_weights import load_cgnet_weights
from convgate.methods.channel_gating import ChannelGating
from convgate.methods.combined import Combined
from convgate.methods.dgnet_weights import load_dgnet_weights
from convgate.methods.dual_gating import DualGating
from convgate.methods.global_gater import GlobalGater, load_gater_weights
from convgate.methods.layer_skipping import LayerSkipping
from convgate.methods.registry import METHODS, create_method, list_methods, option_names, register_method

create = create_method

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
    "create_method",
    "list_methods",
    "load_cgnet_weights",
    "load_dgnet_weights",
    "load_gater_weights",
    "option_names",
    "register_method",
]
