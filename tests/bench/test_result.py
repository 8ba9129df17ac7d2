"""The arithmetic of a comparison, on made-up timings."""

import csv
import io
import json
from dataclasses import replace

import pytest

from convgate.bench import Result, Row
from convgate.bench.report import figure, sentences, table, write

VERSIONS = {"torch": "9", "onnx": None}
MACHINE = {"processor": "abacus", "cores": 2, "instruction_set": "beads", "threads": 2, "versions": VERSIONS}


def row(engine, ms=None, kind="dense", **fields):
    timed = {} if ms is None else {"median_ms": ms, "p20_ms": ms * 0.9, "p80_ms": ms * 1.2, "n": 7, "difference": 1e-7}
    return Row(engine, engine.title(), kind, **timed, **fields)


ROWS = (
    row("eager", 20.0),
    row("torch-compile", failed="ImportError: no compiler"),
    row("onnxruntime", 12.0, reference=True),
    row("openvino", 9.0, reference=True),
    row("openvino-default", 2.0, precision="default"),
    row("masked", 30.0, kind="gated"),
    row("engine-dense", 8.0),
    row("engine-gated", 6.0, kind="gated"),
)


def result(rows=ROWS):
    return Result(rows, 1000, 400.0, MACHINE, {"model": "a/b", "batch": 1, "method": {"name": "Shut"}})


def test_the_realised_share_is_of_the_gain_over_our_own_dense_engine():
    found = result()
    assert found.macs_ratio == pytest.approx(0.4)
    assert found.own_dense.engine == "engine-dense"
    assert found.realised == pytest.approx((8 / 6 - 1) / (1000 / 400 - 1))
    assert found.speedup_over(found.rows[0]) == pytest.approx(20 / 6)


def test_gates_that_save_no_time_realise_nothing():
    slow = [replace(r, median_ms=8.0) if r.engine == "engine-gated" else r for r in ROWS]
    assert result(tuple(slow)).realised == 0.0
    slower = [replace(r, median_ms=9.0) if r.engine == "engine-gated" else r for r in ROWS]
    assert result(tuple(slower)).realised < 0


def test_without_gates_the_promise_is_that_of_the_macs_that_are_left_then():
    assert result().realised_without_gates() is None
    pruned = row("engine-pruned", 4.0, kind="pruned", macs=250.0)
    found = result((*ROWS, pruned))
    assert found.realised_without_gates() == pytest.approx((8 / 4 - 1) / (1000 / 250 - 1))
    assert found.realised == result().realised
    text = sentences(found)
    assert (
        "without gates (pruned.cgm, 25.0% of the MACs, float32): 33% of the promised gain, 2.00 times as fast" in text
    )
    assert "overlap" not in text.split("without gates")[1].split("\n")[0]
    halves = (row("engine-dense-bf16", 4.0), row("engine-pruned-bf16", 3.9, kind="pruned", macs=250.0))
    assert "dense (3.600 - 4.800 ms) and pruned" in sentences(result((*ROWS, *halves)))


def test_the_speed_up_is_over_the_faster_reference():
    found = result()
    assert found.best_dense.engine == "openvino"  # not the faster one at lower precision, nor our own
    assert found.speedup == pytest.approx(9 / 6)


def test_bfloat16_is_compared_with_bfloat16():
    halves = (
        row("openvino-bf16", 4.0, precision="bf16", reference=True),
        row("engine-dense-bf16", 5.0, precision="bf16"),
        row("engine-gated-bf16", 2.0, kind="gated", precision="bf16"),
    )
    found = result((*ROWS, *halves))
    assert found.best_dense_in("bf16").engine == "openvino-bf16"
    assert found.best_dense_in("int8") is None
    assert found.best_dense.engine == "openvino"
    assert found.gated.engine == "engine-gated"
    assert "2.50 times as fast as dense and 2.00 times as fast as the best dense bf16 engine" in sentences(found)
    assert "bf16" not in sentences(result())


@pytest.mark.parametrize(("p80", "inconclusive"), [(7.0, False), (7.2, True), (9.0, True)])
def test_timings_that_overlap_are_inconclusive(p80, inconclusive):
    rows = tuple(replace(r, p80_ms=p80) if r.engine == "engine-gated" else r for r in ROWS)  # p20 of dense is 7.2
    found = result(rows)
    assert found.inconclusive == found.as_data()["inconclusive"] == inconclusive
    assert ("inconclusive" in sentences(found)) == inconclusive


@pytest.mark.parametrize(
    ("number", "impatient", "said"), [(0, False, None), (3, False, "left out: 3"), (9, True, "count all the same")]
)
def test_rounds_with_far_cores_are_told(number, impatient, said):
    found = {"near_ns": 500.0, "rounds_left_out": number, "impatient": impatient}
    text = sentences(replace(result(), machine=MACHINE | found))
    assert ("500 ns" in text) == (said is not None)
    assert said is None or said in text


def test_without_the_references_pytorch_is_the_best_dense():
    found = result(tuple(r for r in ROWS if not r.reference))
    assert found.best_dense.engine == "eager"
    assert found.speedup == pytest.approx(20 / 6)


def test_gates_that_cost_more_than_they_save_are_said_to():
    text = sentences(replace(result(), gated_macs=1480.0))
    assert "1,480 of 1,000 per image, 148.0%: more than the dense network's" in text
    assert "fewer" not in text
    assert "the MACs promise no gain" in text
    assert replace(result(), gated_macs=1480.0).realised is None


@pytest.mark.parametrize(
    ("missing", "realised", "speedup"),
    [("engine-gated", False, False), ("engine-dense", False, True), ("dense", False, False)],
)
def test_what_was_not_measured_is_none(missing, realised, speedup):
    found = result(tuple(r for r in ROWS if missing not in (r.engine, r.kind)))
    data = found.as_data()
    assert (data["speedup_over_best_dense"] is not None) == speedup
    assert (data["realised"] is not None) == realised
    json.dumps(data, allow_nan=False)
    assert ("no speed-up over others" in sentences(found)) != speedup
    assert ("no gain to tell" in sentences(found)) != realised
    assert found.inconclusive is False


def test_rows_that_failed_or_lost_stay():
    data = result().as_data()
    assert [r["engine"] for r in data["rows"]] == [r.engine for r in ROWS]
    failed = data["rows"][1]
    assert failed["failed"] == "ImportError: no compiler"
    assert failed["median_ms"] is None
    assert all(r["failed"] is None for r in data["rows"] if r is not failed)


def test_engines_that_are_faster_than_the_best_dense_are_named():
    text = sentences(result())
    assert (
        "22% of the promised gain: gated, the engine is 1.33 times as fast as dense, and the MACs promise 2.50" in text
    )
    assert "1.50 times as fast as the best dense float32 engine of others (Openvino)" in text
    assert text.index("promised gain") < text.index("of others")
    assert "faster still than that: Openvino-Default, Engine-Dense" in text
    assert "onnx absent" in text


def test_samples_become_quantiles():
    timed = ROWS[0].timed([float(n) for n in range(11)])
    assert timed == {"median_ms": 5.0, "p20_ms": 2.0, "p80_ms": 8.0, "n": 11}


def test_the_files_hold_every_row(tmp_path):
    paths = write(result(), tmp_path)
    assert [p.name for p in paths] == [f"a_b-Shut-macs0.40-batch1-threads2.{kind}" for kind in ("csv", "json", "svg")]
    lines = list(csv.DictReader(io.StringIO(paths[0].read_text())))
    assert [line["engine"] for line in lines] == [r.engine for r in ROWS]
    assert {line["processor"] for line in lines} == {"abacus"}
    assert {line["realised"] for line in lines} == {str(result().realised)}
    assert json.loads(paths[1].read_text()) == result().as_data()
    assert paths[2].read_text() == figure(result()).svg
    assert "Torch-Compile" not in figure(result()).alt


def test_the_table_says_what_to_install_with_its_brackets():
    from rich.console import Console

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table(result(rows=(row("mnn", failed="pip install 'convgate[runtimes]'"),))))
    assert "convgate[runtimes]" in console.export_text()


def test_the_table_has_a_line_for_each_row():
    shown = table(result())
    assert shown.row_count == len(ROWS)
    assert {"median ms", "MACs"} <= {column.header for column in shown.columns}
