"""What docs/measured.md says of accuracy in low precision, from what `bf16.py` and `quantization.py` recorded."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from records import rows_of

__all__ = ["dense", "gated", "read"]

Row = Mapping[str, str]

_CIFAR = "CIFAR "
# What the names of networks of CIFAR-10 begin with. Those that are judged on its test images are gated.


def read(results: Path) -> tuple[dict[str, Row], dict[str, Row]]:
    """Network -> its row in bfloat16, and its row in 8-bit integers, of what was judged on test images."""
    tables = []
    for name in ("bf16.csv", "quantization.csv"):
        rows = [row for row in rows_of(results / name) if row.get("judged", "test images") == "test images"]
        tables.append({row["network"]: row for row in sorted(rows, key=lambda row: row["network"])})
    bf16, int8 = tables
    return bf16, int8


def gated(bf16: Mapping[str, Row], int8: Mapping[str, Row]) -> tuple[list[str], list[list[str]]]:
    """(headings, lines) of a table with a line for each gated network."""
    headings = [
        "run",
        "test images",
        "float32",
        "bfloat16",
        "decisions that change",
        "8-bit integers",
        "decisions that change",
    ]
    lines = []
    for network, half in bf16.items():
        if network.startswith(_CIFAR) and (row := int8.get(network)):
            changed = f"{float(half['changed']):.3f} %" if half["changed"] else "not counted"
            flipped = f"{100 * float(row['decisions_flipped']):.3f} %"
            numbers = [half["top1_float32"], half["top1_bf16"], 100 * float(row["int8"])]
            single, low, integers = (f"{float(number):.2f} %" for number in numbers)
            lines.append([f"`{network.removeprefix(_CIFAR)}`", _images(half), single, low, changed, integers, flipped])
    return headings, lines


def dense(bf16: Mapping[str, Row], int8: Mapping[str, Row]) -> tuple[list[str], list[list[str]]]:
    """(headings, lines) of a table with a line for each dense network and precision."""
    headings = ["network", "precision", "photographs", "float32", "in that precision", "same answer"]
    lines = []
    for network, half in bf16.items():
        if not network.startswith(_CIFAR):
            numbers = [half["top1_float32"], half["top1_bf16"], half["same_answer"]]
            lines.append([network, "bfloat16", _images(half), *_percent(numbers)])
            row = int8[network]
            numbers = [100 * float(row[key]) for key in ("float32", "int8", "same_answer")]
            lines.append([network, "8-bit integers", _images(row), *_percent(numbers)])
    return headings, lines


def _images(row: Row) -> str:
    return f"{int(row['images']):,}"


def _percent(numbers: Sequence[float | str]) -> list[str]:
    return [f"{float(number):.1f} %" for number in numbers]
