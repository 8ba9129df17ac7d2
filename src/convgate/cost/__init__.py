"""Multiply-accumulates (MACs): per sample and per layer, gates included."""

from convgate.cost.counting import count_macs, node_macs
from convgate.cost.layers import LayerCost
from convgate.cost.ledger import Cost, Ledger

__all__ = ["Cost", "LayerCost", "Ledger", "count_macs", "node_macs"]
