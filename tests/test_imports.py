"""Imports point one way: each room of `src/convgate` imports only from itself and from rooms below it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "convgate"

FLOORS = (
    ("errors",),
    (
        "files",
        "columns",
        "pages",
        "drawing",
        "extras",
        "suggestions",
        "augmentation",
        "undisturbed",
        "cores",
        "memory_format",
    ),
    ("preparation",),
    ("gating", "models", "data", "weights"),
    ("reading",),
    ("cost",),
    ("gated",),
    ("methods",),
    ("checkpoint",),
    ("engine",),
    ("timing",),
    ("latency",),
    ("calibration",),
    ("quantization", "hardware", "onnx_export"),
    ("bench",),
    ("tasks",),
    ("recipes",),
    ("analysis",),
    ("training", "finetuning"),
    ("runs",),
    ("commands",),
    ("cli",),
)
"""From the ground up. Rooms on one floor do not import each other."""

ORDER = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def _room(path):
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def _imports(path):
    """Rooms that a file imports, at the top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("convgate."):
            yield node.module.split(".")[1], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "convgate":
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name.split(".")[1], node.lineno) for a in node.names if a.name.startswith("convgate."))


FILES = sorted(p for p in SOURCE.rglob("*.py") if p.parent != SOURCE or p.stem not in ("__init__", "__main__"))


def test_every_room_has_a_floor():
    assert {_room(path) for path in FILES} <= ORDER.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_file_imports_from_rooms_below_its_own(path):
    here = _room(path)
    upward = [
        f"line {line}: {room}"
        for room, line in _imports(path)
        if room != here and not room.startswith("__") and ORDER[room] >= ORDER[here]
    ]
    assert not upward
