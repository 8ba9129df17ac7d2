"""Calibration: shift the gates' logits until the mean cost in evaluation is a given budget."""

from convgate.calibration.calibrate import Calibration, calibrate
from convgate.calibration.share import share_of_time

__all__ = ["Calibration", "calibrate", "share_of_time"]
