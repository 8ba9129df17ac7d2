"""Other runtimes in one process: what they leave behind."""

import subprocess
import sys

import pytest

# A handler of a signal runs on the stack that is set for handlers; subprocess.run() raises the signal.
DROPPED_AS_MADE = """
import signal, subprocess, sys
import numpy as np, torch
from convgate.bench.runtimes import openvino
images = np.zeros((1, 3, 8, 8), np.float32)
kept = [openvino.request(torch.nn.Conv2d(3, 4, 3), images, 1, "f32") for _ in range(2)]
signal.signal(signal.SIGCHLD, lambda *_: None)
del kept[0], kept[0]
sys.exit(subprocess.run([sys.executable, "-c", ""]).returncode)
"""


def test_signals_have_handlers_after_openvino_is_dropped():
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", DROPPED_AS_MADE]).returncode == 0
