"""The machine and the versions that a timing was made with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

__all__ = ["machine", "processor", "version_of"]

_PACKAGES = ("convgate", "torch", "torchvision", "timm", "numpy", "onnx", "onnxruntime", "openvino")


def machine(threads: int) -> dict[str, Any]:
    """Processor, cores that this process may use, instruction sets, threads, versions (None: not installed)."""
    from convgate.engine.runtime import choose_isa
    from convgate.engine.threads import choose_threads

    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else choose_threads(None),
        "instruction_set": choose_isa(None),
        "instruction_set_torch": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "system": platform.system(),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in _PACKAGES}},
    }


def version_of(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor()
