"""Timing that can be trusted: contestants in turns, and the machine that it was on."""
