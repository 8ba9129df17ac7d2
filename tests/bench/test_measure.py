"""The whole comparison on a tiny network: rows, checks of outputs, engines that fail."""

import importlib.util
import json
import sys
from dataclasses import replace

import pytest
import torch

from convgate import DualGating, gate, save
from convgate.bench import COMPETITORS, bench
from convgate.bench import measure as comparison
from convgate.bench.built import Built
from convgate.bench.competitors import Competitor, choose
from convgate.bench.measure import measure
from convgate.bench.subject import prepare
from convgate.cli import main
from convgate.engine.compile import compile as compile_engine
from convgate.errors import InputError
from convgate.methods import METHODS
from convgate.models import create

LIGHT = "eager,masked,engine-dense,engine-gated"
PACKAGES = {
    "torch-compile-bf16": (),
    "zentorch": ("zentorch",),
    "zentorch-bf16": ("zentorch",),
    "onnxruntime": ("onnx", "onnxruntime"),
    "onnxruntime-int8": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
    "openvino-default": ("onnx", "openvino"),
    "openvino-int8": ("onnx", "openvino", "nncf"),
    "ncnn": ("onnx", "ncnn", "pnnx"),
    "ncnn-bf16": ("onnx", "ncnn", "pnnx"),
    "mnn": ("onnx", "MNN"),
    "executorch": ("executorch", "torchao"),
}
FAR = {"float32": 1e-3, "bf16": 0.1, "int8": 0.2, "default": 0.1}


def installed(*packages):
    return all(importlib.util.find_spec(package) for package in packages)


@pytest.fixture(scope="module")
def subject():
    return prepare("cifar_resnet8", "DualGating", 0.6, size=16)


def test_ours_and_pytorchs_rows_agree(subject):
    before = torch.get_num_threads()
    result = measure(subject, choose(LIGHT), threads=1, rounds=3)
    assert torch.get_num_threads() == before
    assert [row.engine for row in result.rows] == LIGHT.split(",")
    for row in result.rows:
        assert row.failed == ""
        assert row.difference < 1e-4
        assert row.n == 3
        assert 0 < row.p20_ms <= row.median_ms <= row.p80_ms
    dense, gated = result.rows[2:]
    assert dense.macs == subject.dense_macs
    assert gated.macs == result.gated_macs == pytest.approx(subject.gated_macs, rel=1e-3)
    assert result.best_dense.engine == "eager"
    gain = dense.median_ms / gated.median_ms - 1
    assert result.realised == pytest.approx(gain / (result.dense_macs / result.gated_macs - 1))


def test_rounds_with_far_cores_are_left_out(subject, monkeypatch):
    def fails(subject, threads):
        return Built(lambda x: next(calls)(x))

    answers = iter([True, True, True, False, True, True])
    monkeypatch.setattr(comparison, "are_near", lambda threads, nanoseconds: next(answers))
    built = choose("engine-dense")[0].build(subject, 1)
    calls = iter([built.call] * (len(subject.inputs) + 3))  # for checking; then it ends
    first = Competitor("first", "fails when it is timed", "dense", fails)
    result = measure(subject, [first, *choose("engine-dense,engine-gated")], threads=1, rounds=2, near=500)
    assert "StopIteration" in result.rows[0].failed
    assert [row.n for row in result.rows[1:]] == [2, 2]
    found = {key: result.machine[key] for key in ("near_ns", "rounds_left_out", "impatient")}
    assert found == {"near_ns": 500, "rounds_left_out": 1, "impatient": False}


@pytest.mark.parametrize("name", PACKAGES)
def test_other_runtimes_agree_with_pytorch(subject, name):
    if not installed(*PACKAGES[name]):
        pytest.skip(f"{' or '.join(PACKAGES[name])} is not installed")
    row = measure(subject, choose(name), threads=1, rounds=1).rows[0]
    assert row.failed == ""
    assert 0 < row.difference < FAR[row.precision]


@pytest.mark.parametrize("name", [name for name, packages in PACKAGES.items() if packages])
def test_a_runtime_that_is_not_installed_is_a_row_that_says_so(subject, name, monkeypatch):
    package = PACKAGES[name][0]
    imported = "executorch.backends.xnnpack.partition.xnnpack_partitioner" if package == "executorch" else package
    monkeypatch.setitem(sys.modules, imported, None)
    row = measure(subject, choose(name), threads=1, rounds=1).rows[0]
    assert row.median_ms is None
    assert "not installed" in row.failed
    assert "convgate[bench]" in row.failed or "convgate[runtimes]" in row.failed


def test_engines_that_fail_or_compute_something_else_are_rows_with_the_reason(subject):
    def cannot(subject, threads):
        raise RuntimeError("no such\nbeads")

    def differs(subject, threads):
        return Built(lambda images: COMPETITORS[0].build(subject, 1).call(images) * 1.01)

    def breaks_later(subject, threads):
        calls = iter(range(len(subject.inputs)))
        right = COMPETITORS[0].build(subject, 1).call

        def call(images):
            if next(calls, None) is None:
                raise RuntimeError("worn out")
            return right(images)

        return Built(call)

    builders = (cannot, differs, breaks_later)
    odd = [Competitor(b.__name__, b.__name__, "dense", b, reference=True) for b in builders]
    result = measure(subject, [*odd, *choose("eager")], threads=1, rounds=2)
    reasons = [row.failed for row in result.rows]
    assert reasons[0] == "RuntimeError: no such beads"
    assert "differ from PyTorch's by 0.01" in reasons[1]
    assert "worn out" in reasons[2]
    assert reasons[3] == ""
    assert result.best_dense.engine == "eager"


def test_decisions_on_the_edge_do_not_count_as_differences(subject):
    """An engine whose decisions differ is compared with what the network makes of them, and the row tells."""
    engine = choose("engine-gated")[0]
    built = engine.build(subject, 1)
    name = next(iter(built.engine.run(subject.inputs[0]).decisions))

    class Flipped:
        def __call__(self, images):
            return self.run(images).outputs[0]

        def run(self, images):
            masks = built.engine.run(images).decisions[name].mask.copy()
            masks.flat[0] = 1 - masks.flat[0]
            return built.engine.run(images, given={name: masks})

    flipped = replace(engine, build=lambda subject, threads: Built(Flipped(), "", Flipped()))
    row = measure(subject, [flipped], threads=1, rounds=1).rows[0]
    assert row.failed == ""
    assert row.difference < 1e-4
    assert "decisions differ" in row.note


def test_rows_in_bfloat16(subject):
    """They are near what PyTorch computes in float32, given the same decisions, and execute as many MACs."""
    found = measure(subject, choose("engine-gated,engine-dense-bf16,engine-gated-bf16"), threads=1, rounds=1)
    gated, *halves = found.rows
    assert [row.failed for row in found.rows] == ["", "", ""]
    assert all(1e-5 < row.difference < 0.05 and row.precision == "bf16" for row in halves)
    assert halves[1].macs == pytest.approx(gated.macs, rel=0.05)
    assert found.gated_in("bf16").engine == "engine-gated-bf16"
    assert found.own_dense_in("bf16").engine == "engine-dense-bf16"


def test_rows_in_int8(subject):
    found = measure(subject, choose("engine-gated,engine-dense-int8,engine-gated-int8"), threads=1, rounds=1)
    gated, *integers = found.rows
    assert [row.failed for row in found.rows] == ["", "", ""]
    assert all(1e-4 < row.difference < 0.2 and row.precision == "int8" for row in integers)
    assert integers[1].macs == pytest.approx(gated.macs, rel=0.05)
    assert found.gated_in("int8").engine == "engine-gated-int8"
    assert found.own_dense_in("int8").engine == "engine-dense-int8"


@pytest.mark.parametrize("method", METHODS)
def test_from_python_in_one_call(method):
    """Calibrated to what its gates can reach, as nobody asks for a budget."""
    how = {"size": 16, "competitors": choose("engine-gated"), "threads": 1, "rounds": 1}
    result = bench("cifar_resnet8", method, **how)
    assert result.rows[0].failed == ""
    assert result.settings["method"]["name"] == method
    assert result.settings["size"] == [16, 16]
    asked = result.settings["macs_asked"]
    assert result.macs_ratio > 1 if asked is None else result.macs_ratio == pytest.approx(asked, rel=0.25)


def test_a_budget_is_asked_for():
    how = {"size": 16, "competitors": choose("engine-gated"), "threads": 1, "rounds": 1}
    result = bench("cifar_resnet8", macs=0.6, **how)
    assert result.settings["macs_asked"] == 0.6
    assert result.macs_ratio == pytest.approx(0.6, rel=0.05)


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"rounds": 0}, {"seconds": 0.0}, {"near": 0.0}])
def test_numbers_must_be_positive(subject, wrong):
    with pytest.raises(InputError, match="positive"):
        measure(subject, choose("eager"), **{"threads": 1} | wrong)


def test_the_command_prints_json_and_nothing_else(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["bench", "cifar_resnet8", "--method", "DualGating", "--macs", "0.6", "--size", "16", "--json"]
    assert main([*arguments, "--threads", "1", "--rounds", "2", "--only", LIGHT, "--out", str(out)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["engine"] for row in data["rows"]] == LIGHT.split(",")
    assert {"median_ms", "p20_ms", "p80_ms", "n"} <= set(data["rows"][0])
    assert data["macs_ratio"] == pytest.approx(0.6, rel=0.05)
    assert data["realised"] == pytest.approx((data["speedup_over_own_dense"] - 1) / (data["mac_reduction"] - 1))
    assert isinstance(data["inconclusive"], bool)
    assert data["machine"]["threads"] == 1
    assert data["machine"]["peak_gmacs"].keys() == {"float32", "bf16", "int8"}
    assert all(speed > 0 for speed in data["machine"]["peak_gmacs"].values())
    for when in ("before", "after"):
        found = data["machine"][f"cores_{when}"]
        assert found["scaling"] > 0
        assert 0 < found["sharing_ns"] < 1e7
    assert {"python", "torch", "onnxruntime", "openvino", "convgate"} <= set(data["machine"]["versions"])
    assert sorted(path.suffix for path in out.iterdir()) == [".csv", ".json", ".svg"]
    assert json.loads(next(out.glob("*.json")).read_text()) == data


def test_the_command_times_a_checkpoint(tmp_path, capsys, small):
    path = tmp_path / "network.safetensors"
    save(small[0], path)
    arguments = ["bench", str(path), "--threads", "1", "--rounds", "1", "--only", "eager,engine-gated"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "convgate gated" in text
    assert "no gain to tell" in text  # our own dense row was left out
    assert "the best dense float32 engine of others (PyTorch eager" in text


def test_a_finetuned_checkpoint_is_timed_without_its_gates_too(tmp_path, capsys):
    torch.manual_seed(0)
    model = create("cifar_resnet8", width=4).eval()
    example = torch.randn(1, 3, 16, 16)
    net = gate(model, DualGating(), example).eval()  # whole, so that the model is what it is without gates
    save(net, tmp_path / "net.safetensors")
    arguments = ["bench", str(tmp_path / "net.safetensors"), "--threads", "1", "--rounds", "1", "--out", str(tmp_path)]
    assert main([*arguments, "--only", "engine-pruned"]) == 2
    assert "there is no pruned.cgm" in capsys.readouterr().err
    compile_engine(model, example).save(tmp_path / "pruned.cgm")
    assert main([*arguments, "--only", "engine-pruned", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["rows"]
    assert found["engine"] == "engine-pruned"
    assert found["max_relative_difference"] < 1e-4
    assert found["failed"] is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["resnet1800"], "resnet1800"),
        (["cifar_resnet8", "--method", "magic"], "magic"),
        (["cifar_resnet8", "--macs", "2"], "macs 2"),
        (["cifar_resnet8", "--only", "abacus"], "abacus"),
        (["cifar_resnet8", "--threads", "0"], "threads"),
        (["nothing.safetensors"], "nothing.safetensors"),
    ],
)
def test_mistakes_are_explained_on_stderr(arguments, named, tmp_path, capsys):
    assert main(["bench", *arguments, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert named in captured.err
    assert not (tmp_path / "out").exists()
