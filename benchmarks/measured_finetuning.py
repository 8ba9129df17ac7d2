"""What README and docs/design/finetuning.md say of finetuning, from what `finetune.py` and `finetuned.py` recorded."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["all_rows", "in_short", "read", "taken_out"]

_NAMES = {"resnet50": "ResNet-50", "efficientnet_lite0": "EfficientNet-Lite0", "mobilenetv2": "MobileNetV2"}
_LATE = 1.2
# A run that takes so many times what it was asked to is said to.


def read(path: Path) -> list[dict[str, str]]:
    """The rows of benchmarks/results/finetune.csv, by network, budget, and time asked for."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return sorted(rows, key=lambda row: (list(_NAMES).index(row["network"]), -float(row["budget"]), _asked(row)))


def all_rows(rows: Sequence[Mapping[str, str]]) -> tuple[list[str], list[list[str]]]:
    """(headings, lines) of a table with a line for each run."""
    headings = ["network", "budget", "trained", "dense", "accuracy", "answers that stay", "KL", "MACs", "commit"]
    return headings, [
        [
            _NAMES[row["network"]],
            row["budget"],
            f"{_time(row)}, {int(row['steps']):,} steps",
            _percent(row["dense"]),
            _percent(row["accuracy"]),
            _percent(row["agreement"]),
            f"{float(row['kl']):.3f}",
            _percent(row["share"]),
            row["commit"],
        ]
        for row in rows
    ]


def in_short(rows: Sequence[Mapping[str, str]]) -> tuple[list[str], list[list[str]]]:
    """(headings, lines) of a table with a line for each network; of runs of one length the newest."""
    budgets = sorted({float(row["budget"]) for row in rows}, reverse=True)
    headings = ["accuracy", "dense", *(f"{100 * budget:.0f} % of the MACs" for budget in budgets)]
    lines = []
    for network, name in _NAMES.items():
        own = [row for row in rows if row["network"] == network]
        found = []
        for budget in budgets:
            newest = {_asked(row): row for row in own if float(row["budget"]) == budget}
            found.append(", ".join(f"{_percent(row['accuracy'])} ({_time(row)})" for row in newest.values()))
        lines.append([name, _percent(own[0]["dense"]), *found])
    return headings, lines


def taken_out(record: Mapping[str, Any]) -> str:
    """What it is worth to take out what is closed for every image, from benchmarks/results/finetuned.json."""
    rows = record["rows"]

    def ms(engine: str, precision: str) -> str:
        return f"{rows[f'{engine}, {precision}']['median_ms']:.1f}"

    engines = ("pruned", "dense", "OpenVINO dense", "OpenVINO pruned")
    float32, bf16 = ([ms(engine, precision) for engine in engines] for precision in ("float32", "bf16"))
    shares = [f"{100 * rows[f'pruned, {precision}']['share_of_promised']:.0f} %" for precision in ("float32", "bf16")]
    return (
        "What `finetune` closes is the same for every image, so it is taken out of `pruned.cgm`: ResNet-50's at 60 % "
        f"takes {float32[0]} ms for a photograph where our dense engine takes {float32[1]} ms and OpenVINO "
        f"{float32[2]} ms (bfloat16: {bf16[0]}, {bf16[1]} and {bf16[2]} ms). That is {shares[0]} of what the MACs "
        f"promise in float32 and {shares[1]} in bfloat16. What is taken out is so for any engine: given the same "
        f"smaller network, OpenVINO takes {float32[3]} ms, and {bf16[3]} ms in bfloat16."
    )


def _asked(row: Mapping[str, str]) -> float:
    return float(row["trained"].removesuffix("min"))


def _time(row: Mapping[str, str]) -> str:
    asked, taken = _asked(row), float(row["seconds"] or 0) / 60  # of a run that was interrupted, not known
    return f"{asked:.0f} minutes" + (f" asked for, {taken:.0f} taken" if taken > _LATE * asked else "")


def _percent(share: str) -> str:
    return f"{100 * float(share):.1f} %"
