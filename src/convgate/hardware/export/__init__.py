"""What other simulators read: one image's layers, as SCALE-Sim, Timeloop and Accelergy want them."""

from convgate.hardware.export.files import FORMATS, export

__all__ = ["FORMATS", "export"]
