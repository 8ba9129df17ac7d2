"""Closing units for good: whose part the others can take over (`order`), and layers that do without (`reconstruct`)."""

from convgate.finetuning.closing.closing import Closing

__all__ = ["Closing"]
