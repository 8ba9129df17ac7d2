"""What docs/measured.md says of a segmenter and of memory, from what `camvid.py` and `memory.py` recorded."""

from collections.abc import Mapping
from typing import Any

__all__ = ["memory", "segmentation", "segmenter_in_words"]

_ENGINES = {
    "dense": "ours, dense",
    "gated": "ours, gated",
    "pruned": "ours, without what is closed",
    "ONNX Runtime dense": "ONNX Runtime, dense",
    "OpenVINO dense": "OpenVINO, dense",
    "ONNX Runtime pruned": "ONNX Runtime, without what is closed",
    "OpenVINO pruned": "OpenVINO, without what is closed",
}


def segmenter_in_words(record: Mapping[str, Any]) -> str:
    """Mean IoU dense and gated, the share of the MACs, and the gain over the best dense engine in float32."""
    judged, times = record["judged"], record["times"]
    gated = judged["finetuned"]
    gains = []
    for rows in times.values():
        others = [rows[f"{engine} dense, float32"]["median_ms"] for engine in ("ONNX Runtime", "OpenVINO")]
        gains.append(f"{min(others) / rows['gated, float32']['median_ms']:.2f}")
    fast = f"with {' and '.join(times)}, it is {' and '.join(gains)} times as fast"
    return (
        f"On {judged['images']} test images of 480 x 360: mean IoU of 11 classes {judged['dense']['miou']:.1f} % "
        f"dense, {gated['miou']:.1f} % gated with {100 * gated['share']:.1f} % of the MACs. On the engine, "
        f"{fast} as the dense one in the faster of ONNX Runtime and OpenVINO (float32, batch 1). What "
        "`finetune` closes is the same for every image: given the network without it, the others gain, too, and in "
        "bfloat16 OpenVINO is then faster than ours. Labels were used."
    )


def segmentation(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(headings, lines) of a table with a line for each number of threads and engine."""
    headings = ["threads", "engine", "float32", "bfloat16"]
    lines = []
    for threads, rows in record["times"].items():
        for engine, name in _ENGINES.items():
            cells = [_quantiles(rows.get(f"{engine}, {precision}")) for precision in ("float32", "bf16")]
            lines.append([threads.partition(" ")[0], name, *cells])
    return headings, lines


def memory(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(headings, lines) of a table with a line for each network and size."""
    columns = list(record["rows"][0]["bytes"])
    lines = [
        [row["network"], f"{row['size']} x {row['size']}", *(f"{row['bytes'][c] / 2**20:.0f} MiB" for c in columns)]
        for row in record["rows"]
    ]
    return ["network", "image", *columns], lines


def _quantiles(row: Mapping[str, float] | None) -> str:
    if row is None:
        return "-"
    return f"{row['median_ms']:.1f} ms ({row['p20_ms']:.1f} to {row['p80_ms']:.1f})"
