import json
from dataclasses import replace

from convgate.runs.figure import _points, against
from convgate.runs.record import record_of


def test_each_method_has_a_colour_and_each_precision_a_marker(finished):
    form = {"accuracy": 0.9, "dense_accuracy": 0.95, "macs_share": 0.5, "ms": 1.0, "dense_ms": 2.0}
    low = json.dumps({"bf16": form, "int8": {**form, "ms": 0.5}})
    timed = {"latency_gated_ms": 3.0, "latency_dense_ms": 4.0, "accuracy": 0.92, "precisions": low}
    records = [replace(record_of(finished), run=name, method=name, **timed) for name in ("One", "Two")]
    drawing = against(records, "latency")
    assert "One 92.00% at 3" in drawing.alt
    assert "Two in int8 90.00% at 0.5" in drawing.alt
    for precision in ("", " in bf16", " in int8"):
        for name in ("One", "Two", "ungated"):
            assert f">{name}{precision}<" in drawing.svg
    assert "One in bf16" not in against([*records, replace(records[0], run="Three", macs_share=0.3)], "MACs").alt


def test_seeds_are_one_point(finished):
    one = replace(record_of(finished), method="DualGating", control="")
    seeds = [replace(one, run=f"half-{n}", seed=n, macs_share=0.5, accuracy=0.9 + n / 100) for n in range(3)]
    alone = replace(one, run="dense-0", seed=0, method="none", macs_share=1.0, accuracy=0.95)
    half, dense = _points([("", record) for record in (*seeds, alone)], lambda record: 100 * record.macs_share)
    assert (half.name, half.method, half.cost) == ("half, 3 seeds", "DualGating", 50.0)
    assert round(half.accuracy, 6) == 91.0
    assert round(half.error, 4) == 0.5774  # 1 point over the root of 3
    assert (dense.name, dense.method, dense.error) == ("dense-0", "no gates", 0.0)
    drawing = against([*seeds, alone], "MACs")
    assert "half, 3 seeds 91.00% at 50; dense-0 95.00% at 100" in drawing.alt
    assert against(seeds, "MACs") is None  # a point alone
