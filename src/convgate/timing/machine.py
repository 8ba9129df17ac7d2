"""The machine and the versions that a timing was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from convgate.cores import usable_cores

__all__ = ["caches", "machine", "processor", "silicon", "vector_extensions", "version_of"]

_PACKAGES = ("convgate", "torch", "torchvision", "timm", "numpy", "onnx", "onnxruntime", "openvino")
_CPUINFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_VECTORS = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "bf16", "i8mm")
# What the flags of instructions on vectors and matrices begin with.


def machine(threads: int) -> dict[str, Any]:
    """Processor, caches, vector extensions, cores that this process may use, instruction sets, threads, versions.

    A version is None where a package is not installed.
    """
    from convgate.engine.runtime import choose_isa

    return {
        **silicon(),
        "cores": usable_cores(),
        "instruction_set": choose_isa(None),
        "instruction_set_torch": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "system": platform.system(),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in _PACKAGES}},
    }


def silicon() -> dict[str, Any]:
    """What records say of the processor itself."""
    return {"processor": processor(), "caches": caches(), "vector_extensions": vector_extensions()}


def version_of(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, as far as the system tells: "AMD EPYC (family 26, model 2, stepping 1)".

    Names alone are those of several generations.
    """
    told = _cpuinfo()
    name = told.get("model name", "") or platform.processor()
    numbers = (("cpu family", "family"), ("model", "model"), ("stepping", "stepping"))
    which = ", ".join(f"{word} {told[field]}" for field, word in numbers if told.get(field))
    return f"{name} ({which})" if name and which else name or which


def caches() -> dict[str, str]:
    """Sizes of the first core's caches, as the system tells them: {"L1 data": "48K", .., "L3": "32768K"}."""
    found = {}
    for folder in sorted(_CACHES.glob("index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        if level and size:
            found[f"L{level}" + (f" {kind.lower()}" if kind in ("Data", "Instruction") else "")] = size
    return found


def vector_extensions() -> list[str]:
    """Which instructions on vectors and matrices there are, by the system's names of them."""
    told = _cpuinfo()
    flags = (told.get("flags", "") or told.get("Features", "")).split()
    return sorted(flag for flag in flags if flag.startswith(_VECTORS))


def _cpuinfo() -> dict[str, str]:
    """What the system tells of the first core."""
    lines = _read(_CPUINFO).split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
