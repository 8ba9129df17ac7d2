"""Draws all that is said of measurements from their records: pages of results, tables of docs/measured.md and README.

No figure in a page of results or in a table is typed by hand.

    python benchmarks/measured.py

A table stands between `<!-- NAME: .. -->` and `<!-- end NAME -->`; what is between them is replaced. The share of the
promised gain is (own dense time / gated time - 1) / (1 / share of the MACs - 1), see `convgate.bench.result.realised`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measured_dense as dense_prediction
import measured_engine as engine
import measured_finetuning as finetuning
import measured_precision as precision
import measured_training as training

from convgate.files import write_text
from convgate.runs.page import write_page

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGES = (ROOT / "docs" / "measured.md", ROOT / "docs" / "design" / "finetuning.md", ROOT / "README.md")


_BRIEF = ("threads", "OpenVINO, bfloat16")


def tables() -> dict[str, str]:
    """Name of a table -> its lines, in Markdown."""
    zen3, zen4, zen5, methods, segmenter, memory = (
        _json(name) for name in ("engine-zen3", "engine", "engine-zen5", "methods", "camvid", "memory")
    )
    isas, costs = _json("instruction_sets"), _json("costs")
    finetuned = finetuning.read(ROOT / "benchmarks" / "results" / "finetune.csv")
    low = precision.read(ROOT / "benchmarks" / "results")
    runs = training.records(RESULTS)
    return {
        "precisions": _built(zen5) + _table(*engine.precisions(zen5["cases"])),
        "lost": engine.lost(zen5["cases"]),
        "engines": _built(zen5) + _table(*engine.all_engines(zen5["cases"])) + engine.failures(zen5["cases"]),
        "instruction-sets": _built(isas) + _table(*engine.instruction_sets(isas["cases"])),
        "precisions-zen3": _built(zen3) + _table(*engine.precisions(zen3["cases"])),
        "lost-zen3": engine.lost(zen3["cases"]),
        "precisions-zen4": _built(zen4) + _table(*engine.precisions(zen4["cases"])),
        "costs": _built(costs) + _table(*engine.costs(costs["costs"])),
        "methods": _built(methods) + _methods(methods["cases"]),
        "trained": _table(*training.trained(runs)),
        "readme-trained": _table(*training.beside_fixed(runs)),
        "ablations": _table(*training.ablations(training.records(RESULTS / "ablations"))),
        "throughput": _built(_json("training_throughput")) + _throughput(_json("training_throughput")["rows"]),
        "detection": _detection(),
        "readme-detection": _detection_in_short(),
        "segmentation": _built(segmenter)
        + f"{dense_prediction.segmenter_in_words(segmenter)}\n\n"
        + _table(*dense_prediction.segmentation(segmenter)),
        "low-precision": _table(*precision.dense(*low)),
        "low-precision-gated": _table(*precision.gated(*low)),
        "memory": _built(memory) + _table(*dense_prediction.memory(memory)),
        "finetuned": _table(*finetuning.all_rows(finetuned)),
        "readme-finetuned": _table(*finetuning.in_short(finetuned)) + f"\n{finetuning.taken_out(_json('finetuned'))}\n",
        "readme": _table(*engine.in_readme(zen5["cases"])),
    }


def _digits() -> dict[str, Any] | None:
    """The record of `digits.py`; None before it was made."""
    path = ROOT / "benchmarks" / "results" / "digits.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _detection() -> str:
    if (record := _digits()) is None:
        return ""
    rows = [
        {
            "images": f"{case['group']}, {_sizes(case)}",
            **{k: v for k, v in _timed(case).items() if k not in ("network", "OpenVINO, bfloat16")},
            **{
                name: engine.said(engine.milliseconds(case, row))
                for name, row in (
                    ("ours, gated, bf16", "engine-gated-bf16"),
                    ("OpenVINO, bfloat16", "openvino-bf16"),
                )
            },
        }
        for case in record["cases"]
    ]
    return (
        _built(record)
        + f"{_found(record)}\n\n"
        + _table(list(rows[0]), [list(row.values()) for row in rows])
        + "\n"
        + "".join(
            f"With what decodes the maps, in PyTorch: {1e3 * one['detector']['median_s']:.2f} ms for an image with "
            f"{one['threads']} thread(s), of which the engine takes {1e3 * one['part']['median_s']:.2f} ms.\n"
            for one in record["whole"]
        )
    )


def _detection_in_short() -> str:
    if (record := _digits()) is None:
        return ""
    return (
        '<img src="results/digits-detection.jpg" width="420" alt="Digits on large canvases with the boxes that a gated '
        f'detector found, and beside each the map of where it worked">\n\n{_found(record)}\n'
    )


def _found(record: Mapping[str, Any]) -> str:
    objects, epochs = record["objects"], record["epochs"]
    more = epochs["gated"] + epochs["finish"]
    faster, against = (
        [float(_timed(case)[column]) for case in record["cases"]] for column in ("gated is faster", "against it")
    )
    return (
        f"A detector of digits on canvases of 320 to 640 pixels, on {record['test_images']} test images: "
        f"{record['metric']} {100 * record['dense']:.1f} % dense, {100 * record['gated']:.1f} % gated (one run) with "
        f"{100 * record['macs_ratio']:.1f} % of the MACs. The gated one is the dense one after {more} more epochs, "
        "with its own answers as targets, too, and at first its gates were shown where objects are; what such epochs "
        "are worth to a dense one was not measured. For a pixel of an object it spends "
        f"{100 * objects['inside']:.0f} % of what the dense one does, for one of the background "
        f"{100 * objects['outside']:.0f} % ({objects['images']} images). Its convolutions run {min(faster):.1f} to "
        f"{max(faster):.1f} times as fast as the dense one's on the same engine, and {min(against):.1f} to "
        f"{max(against):.1f} times as fast as the dense one's in the faster of ONNX Runtime and OpenVINO (float32, "
        "batch 1, 12 images, without the decoding of boxes)."
    )


def _sizes(case: Mapping[str, Any]) -> str:
    return ", ".join(f"{width}x{height}" for height, width in case["sizes"])


def drawn(text: str) -> str:
    """The text of a page with its tables drawn anew, and the last column of its methods."""
    for name, table in tables().items():
        mark = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text = mark.sub(lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text)
    return re.sub(
        r"(<!-- status: .*?<!-- end status -->)", lambda found: _with_hardware(found[1]), text, flags=re.DOTALL
    )


def _with_hardware(status: str) -> str:
    """The table of methods with what is on record of each on the simulated accelerator, as its last column."""
    said = {row["method"]: _on_hardware(row) for row in _json("hardware_methods")["rows"]}

    def line(old: str) -> str:
        method = re.match(r"\| \[?`(\w+)`", old)
        return f"{old[: old.rindex(' | ')]} | {said.get(method[1], 'not tried')} |" if method else old

    return "\n".join(line(old) for old in status.split("\n"))


def _on_hardware(row: Mapping[str, Any]) -> str:
    """What a record of `benchmarks/hardware.py methods` says of one method."""
    if not row["simulator_has_the_engines_macs"]:
        return "no: MACs differ"
    if not row["rtl_passed"]:
        return "simulated; the RTL differs"
    left = len(row["left_to_the_host"])
    return f"simulated, and RTL but for {left} of {left + row['rtl_layers']} layers" if left else "simulated, and RTL"


def _json(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def _built(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    return (
        f"Recorded with commit {record['commit']} on {record['date']}: {machine['processor']}, "
        f"{machine['instruction_set']}, torch {machine['torch'].partition('+')[0]}.\n\n"
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _timed(case: Mapping[str, Any]) -> dict[str, str]:
    """Heading -> what is said of a case under it."""
    dense, gated, best = (
        engine.milliseconds(case, name) for name in ("engine-dense", "engine-gated", case["best_dense"])
    )
    label = next(row["label"] for row in case["rows"] if row["engine"] == case["best_dense"])
    return {
        "network": engine.NAMES[case["model"]],
        "threads": str(case["threads"]),
        "MACs left": f"{100 * case['macs_ratio']:.1f} %",
        "ours, dense": f"{dense:.2f} ms",
        "ours, gated": f"{gated:.2f} ms",
        "gated is faster": f"{dense / gated:.2f}",
        "share of the promised gain": engine.gain(dense, gated, case["macs_ratio"]),
        "best other dense engine": f"{best:.2f} ms ({label.removesuffix(' float32')})",
        "against it": f"{best / gated:.2f}",
        "OpenVINO, bfloat16": engine.said(engine.milliseconds(case, "openvino-default")),
    }


def _methods(cases: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for case in cases:
        told = _timed(case)
        group = case["method"]["options"].get("group", 1)
        method = f"`{case['method']['name']}{f'(group={group})' if group != 1 else ''}`"
        left = {heading: text for heading, text in told.items() if heading not in ("network", *_BRIEF)}
        rows.append({"network": told["network"], "method": method, **left})
    return _table(list(rows[0]), [list(row.values()) for row in rows])


def _throughput(rows: Sequence[Mapping[str, Any]]) -> str:
    headings = ("dual-gated, bfloat16 autocast, channels_last", "images/s", "plain eager float32 loop, dense", "ratio")
    return _table(
        headings,
        [
            (
                row["gated"],
                str(row["gated_images_per_s"]),
                str(row["dense_plain_images_per_s"]),
                "{median:.2f} ({p20:.2f}, {p80:.2f})".format(**row["ratio"]),
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    for folder in (*sorted(path.parent for path in RESULTS.glob("*/README.md")), RESULTS):
        write_page(folder)
    for page in PAGES:
        write_text(page, drawn(page.read_text(encoding="utf-8")))
