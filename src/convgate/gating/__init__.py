"""How a binary decision is made and trained: estimators, gate heads, masks, and the decisions that come out."""

from convgate.gating.decisions import Decision, Decisions
from convgate.gating.estimators import (
    above_half,
    improved_semhash,
    logistic_straight_through,
    smooth_step,
    threshold_straight_through,
)
from convgate.gating.filling import FillPath, fill_closed
from convgate.gating.gate import Gate
from convgate.gating.heads import ChannelHead, LinearHead, SpatialHead, ThresholdHead
from convgate.gating.kinds import KINDS, Activations, ChannelGroups, GateKind, Tiles
from convgate.gating.masks import NO_REACH, Reach, dilate, expand_channels, expand_tiles, mask_channels, mask_positions
from convgate.gating.partial import base_path, complete
from convgate.gating.pooling import average_pool
from convgate.gating.ramp import Progress, ramp
from convgate.gating.shaping import batch_shaping
from convgate.gating.terms import LossTerms

__all__ = [
    "KINDS",
    "NO_REACH",
    "Activations",
    "ChannelGroups",
    "ChannelHead",
    "Decision",
    "Decisions",
    "FillPath",
    "Gate",
    "GateKind",
    "LinearHead",
    "LossTerms",
    "Progress",
    "Reach",
    "SpatialHead",
    "ThresholdHead",
    "Tiles",
    "above_half",
    "average_pool",
    "base_path",
    "batch_shaping",
    "complete",
    "dilate",
    "expand_channels",
    "expand_tiles",
    "fill_closed",
    "improved_semhash",
    "logistic_straight_through",
    "mask_channels",
    "mask_positions",
    "ramp",
    "smooth_step",
    "threshold_straight_through",
]
