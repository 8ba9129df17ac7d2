"""What README and docs/measured.md say of the engine, from what `engine.py` and `instruction_sets.py` recorded."""

from collections.abc import Mapping, Sequence
from typing import Any

from convgate.bench.result import realised

__all__ = [
    "NAMES",
    "against",
    "all_engines",
    "costs",
    "gain",
    "in_readme",
    "instruction_sets",
    "lost",
    "milliseconds",
    "network",
    "precisions",
    "said",
]

NAMES = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "mobilenet_v2": "MobileNetV2",
    "cifar_resnet18": "CIFAR ResNet-18",
    "cifar_resnet20": "CIFAR ResNet-20",
    "cifar_resnet56": "CIFAR ResNet-56",
    "cifar_vgg16": "CIFAR VGG-16",
    "point_detector": "point detector",
}
_PRECISIONS = (("float32", "float32", ""), ("bfloat16", "bf16", "-bf16"), ("int8", "int8", "-int8"))
"""A precision's name, the records' name for it, and what names of our engine's rows end in."""
_README_CASES = {
    ("resnet18", 0.43, 2, 1),
    ("resnet50", 0.403, 2, 1),
    ("mobilenet_v2", 0.55, 2, 1),
    ("cifar_resnet20", 0.5, 2, 1),
}

Case = Mapping[str, Any]
Table = tuple[list[str], list[list[str]]]


def precisions(cases: Sequence[Case]) -> Table:
    """(headings, lines) of a table with a line for each network and precision: ours, and the fastest other engine."""
    rows = []
    for case in cases:
        for name, precision, ending in _PRECISIONS:
            dense, gated = (milliseconds(case, f"engine-{kind}{ending}") for kind in ("dense", "gated"))
            best = _fastest_other(case, precision)
            openvino = milliseconds(case, f"openvino{ending}")
            rows.append(
                {
                    "network": network(case),
                    "threads": str(case["threads"]),
                    "MACs left": f"{100 * case['macs_ratio']:.1f} %",
                    "precision": name,
                    "ours, dense": said(dense),
                    "ours, gated": said(gated),
                    "speed-up": against(dense, gated),
                    "share of the promised gain": gain(dense, gated, case["macs_ratio"]),
                    "fastest other engine": f"{said(best['median_ms'])} ({_engine(best)})" if best else "-",
                    "speed-up over it": against(best["median_ms"], gated) if best else "-",
                    "OpenVINO": said(openvino),
                    "speed-up over OpenVINO, dense": against(openvino, dense),
                    "gated": against(openvino, gated),
                }
            )
    return list(rows[0]), [list(row.values()) for row in rows]


def in_readme(cases: Sequence[Case]) -> Table:
    """The same for README: fewer columns, one case for each network, in which channels decide one by one."""
    headings, lines = precisions([case for case in cases if _key(case) in _README_CASES])
    kept = [
        i
        for i, heading in enumerate(headings)
        if heading not in ("threads", "OpenVINO", "speed-up over OpenVINO, dense", "gated")
    ]
    return [headings[i] for i in kept], [[line[i] for i in kept] for line in lines]


def all_engines(cases: Sequence[Case]) -> Table:
    """Every engine's milliseconds for each network, in the order of the comparison."""
    names = [f"{network(case)}, {100 * case['macs_ratio']:.0f} %, {case['threads']} thread(s)" for case in cases]
    labels = {row["engine"]: row["label"] for case in cases for row in case["rows"]}
    lines = [[label, *(_short(case, engine) for case in cases)] for engine, label in labels.items()]
    return ["engine, ms", *names], lines


def failures(cases: Sequence[Case]) -> str:
    """Why an engine has no time, a sentence for each network."""
    failed = {
        f"{row['label']} failed on {NAMES[case['model']]}: {row['failed']}.": None
        for case in cases
        for row in case["rows"]
        if row["failed"]
    }
    return "".join(f"\n{line}\n" for line in failed)


def lost(cases: Sequence[Case]) -> str:
    """A list of what others win: where an engine is faster than ours dense, and where gates cost time."""
    lines = []
    for case in cases:
        for name, precision, ending in _PRECISIONS:
            of = f"{network(case)}, {100 * case['macs_ratio']:.0f} %, {case['threads']} thread(s), {name}"
            dense, gated = (milliseconds(case, f"engine-{kind}{ending}") for kind in ("dense", "gated"))
            best = _fastest_other(case, precision)
            if best and dense and best["median_ms"] < dense:
                told = f"- {of}: dense, {_engine(best)} takes {best['median_ms']:.3g} ms, ours {dense:.3g}"
                lines.append(f"{told} (gated {gated:.3g})" if gated else told)
            if best and gated and best["median_ms"] < gated:
                lines.append(f"- {of}: gated, ours takes {gated:.3g} ms, {_engine(best)} dense {best['median_ms']:.3g}")
            if dense and gated and dense < gated:
                lines.append(f"- {of}: gated, ours takes {gated:.3g} ms, and dense {dense:.3g}")
    return "".join(f"{line}\n" for line in lines) or "- none\n"


def instruction_sets(cases: Sequence[Case]) -> Table:
    """Each precision on each instruction set: milliseconds of every network, dense and gated."""
    names = {"bf16": "bfloat16"}
    found: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        taken = {(row["precision"], row["isa"], row["kind"]): 1e3 * row["median_s"] for row in case["rows"]}
        for precision, isa in dict.fromkeys((row["precision"], row["isa"]) for row in case["rows"]):
            both = (taken[precision, isa, kind] for kind in ("dense", "gated"))
            found.setdefault((precision, isa), []).append(" → ".join(f"{ms:.2f}" for ms in both))
    headings = [f"{NAMES[case['model']]} ({100 * case['macs_ratio']:.0f} %)" for case in cases]
    lines = [[names.get(precision, precision), isa, *cells] for (precision, isa), cells in found.items()]
    return ["precision", "instruction set", *headings], lines


def costs(measured: Sequence[Mapping[str, Any]]) -> Table:
    """Each cost: what stands in the runtime, and what was measured with each instruction set's kernels."""
    rows: dict[tuple[str, str, float], list[str]] = {}
    for cost in measured:
        said_of = f" ({cost['kernels']})" if cost["kernels"] else ""
        shown = [f"{float(f'{cost[key]:.2g}'):g}" for key in ("measured", "p20", "p80")]
        told = shown[0] if len(set(shown)) == 1 else f"{shown[0]} [{shown[1]}, {shown[2]}]"
        rows.setdefault((cost["cost"], cost["unit"], cost["stands"]), []).append(told + said_of)
    lines = [[f"`{name}`", unit, f"{stands:.7g}", ", ".join(found)] for (name, unit, stands), found in rows.items()]
    return ["cost", "unit", "stands", "measured"], lines


def network(case: Case) -> str:
    """A case's network, and in groups of how many channels its gates decide where they do not decide one by one."""
    return NAMES[case["model"]] + (f", channels by {_group(case)}" if _group(case) > 1 else "")


def milliseconds(case: Case, engine: str) -> Any:
    """An engine's median; None if it failed or was not timed."""
    return next((row["median_ms"] for row in case["rows"] if row["engine"] == engine), None)


def gain(dense_ms: float | None, gated_ms: float | None, share: float) -> str:
    """The share of the promised gain, in words."""
    if dense_ms is None or gated_ms is None:
        return "-"
    had = realised(dense_ms, gated_ms, share)
    return "nothing to gain" if had is None else f"{round(100 * had)} %"


def said(ms: float | None) -> str:
    """A time as tables have it."""
    return "failed" if ms is None else f"{ms:.2f} ms"


def against(theirs: float | None, ours: float | None) -> str:
    """How many times as fast ours is."""
    return "-" if theirs is None or ours is None else f"{theirs / ours:.2f}"


def _key(case: Case) -> tuple[str, float, int, int]:
    return case["model"], case["macs_asked"], case["threads"], _group(case)


def _group(case: Case) -> int:
    return int(case["method"]["options"].get("group", 1))


def _fastest_other(case: Case, precision: str) -> Mapping[str, Any] | None:
    rows = (
        row
        for row in case["rows"]
        if row["precision"] == precision
        and row["kind"] == "dense"
        and row["median_ms"]
        and "convgate" not in row["label"]
    )
    return min(rows, key=lambda row: float(row["median_ms"]), default=None)


def _engine(row: Mapping[str, Any]) -> str:
    """An engine's name without its precision."""
    return str(row["label"]).removesuffix(" float32").removesuffix(" bfloat16").removesuffix(" int8")


def _short(case: Case, engine: str) -> str:
    if all(row["engine"] != engine for row in case["rows"]):
        return "-"
    ms = milliseconds(case, engine)
    return "failed" if ms is None else f"{ms:.3g}"
