"""One reading at a time."""

from threading import RLock

__all__ = ["READING"]

READING = RLock()
"""Held while a model is read or counted, which changes PyTorch for the whole process: functions are patched, and fused
kernels switched off. Other threads may run models meanwhile, but not read any."""
