"""Calibration: shift the gates' logits until the mean cost in evaluation is a given budget."""

from convgate.calibration.calibrate import Calibration, calibrate

__all__ = ["Calibration", "calibrate"]
