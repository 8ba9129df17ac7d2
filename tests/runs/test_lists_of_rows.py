"""benchmarks/science.py: the lists of rows are of recipes that are there, and the driver runs, resumes and notes."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import yaml

from convgate.cli import parsers
from convgate.commands.train import request_of
from convgate.errors import RecipeError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def science():
    spec = importlib.util.spec_from_file_location("science", BENCHMARKS / "science.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["science"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["science"]


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "rows").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_list_is_of_recipes_that_can_be_run(path, science, tmp_path):
    rows = yaml.safe_load(path.read_text())
    first = [{**row, "seeds": row["seeds"][:1]} for row in rows]
    jobs = list(science.jobs(first, science.Places(tmp_path, Path("cifar10.npz"), Path("weights"))))
    assert len({job.name for job in jobs}) == len(jobs)
    _, commands = parsers()
    for job in jobs:
        arguments, rest = commands["train"].parse_known_args(list(job.arguments))
        arguments.overrides, arguments.options = rest, commands["train"].options
        request = request_of(arguments)
        if request.control not in ("narrower", "wider"):  # they count networks, which takes seconds
            assert sum(request.recipe.epochs.values()) > 0
        assert request.row.hardware.threads == 1


def test_a_list_is_run_and_noted_and_what_is_done_is_not_repeated(science, finished, tmp_path, capfd, monkeypatch):
    """A copy of a finished run stands for training."""

    def copied(job):
        if job.name.startswith("broken"):
            return [sys.executable, "-c", "raise SystemExit('no such size')"]
        return ["cp", "-r", str(finished), str(tmp_path / "runs" / job.name)]

    monkeypatch.setattr(science, "command", copied)
    row = {"name": "tiny", "recipe": "digits-demo", "seeds": [0, 1], "controls": ["dense"], "into": "small"}
    late = {**row, "name": "late", "seeds": [0], "controls": [], "weights": {"run": "tiny-0"}}
    taught = {**late, "name": "taught", "weights": "w", "set": {"teacher": "$RUNS/tiny-1/dense.safetensors"}}
    broken = {**row, "name": "broken", "seeds": [0], "controls": []}
    (tmp_path / "rows.yaml").write_text(json.dumps([late, taught, row, broken]))
    command = [str(tmp_path / "rows.yaml"), "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    (tmp_path / "results").mkdir()
    assert science.main([*command, "--side-by-side", "2"]) == 1
    told = capfd.readouterr()
    assert told.err.splitlines() == ["failed: broken-0; its log is beside its folder"]
    started = [line.split()[-1] for line in told.out.splitlines()]
    assert sorted(started) == ["broken-0", "late-0", "taught-0", "tiny-0", "tiny-1", "tiny-dense-0", "tiny-dense-1"]
    assert started.index("late-0") > started.index("tiny-0")  # it starts from that one's weights
    assert started.index("taught-0") > started.index("tiny-1")  # that one teaches it
    assert "no such size" in (tmp_path / "runs" / "broken-0.log").read_text()
    assert "tiny-dense-1" in (tmp_path / "results" / "small" / "README.md").read_text()
    assert "[small](small/README.md)" in (tmp_path / "results" / "README.md").read_text()

    assert science.main([*command, "--only", "tiny", "late", "taught"]) == 0
    assert capfd.readouterr().out == ""  # nothing was started
    assert science.main([*command, "--status"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert {line.split()[0]: line.split()[-1] for line in lines} == {
        **dict.fromkeys(["late-0", "taught-0", "tiny-0", "tiny-1", "tiny-dense-0", "tiny-dense-1"], "done"),
        "broken-0": "-",
    }
    assert science.main([*command, "--status", "--only", "late", "tiny-1"]) == 0  # a row, and one of another's runs
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == ["late-0", "tiny-1"]
    todo = list(science.jobs([row], science.Places(Path("runs"))))
    monkeypatch.undo()
    assert science.command(todo[1])[3:6] == [sys.executable, "-m", "convgate.cli"]
    assert science.command(todo[1])[6:10] == ["train", "digits-demo@dense", "--out", "runs/tiny-dense-0"]


def test_a_misspelt_field_of_a_row_is_named(science, tmp_path):
    with pytest.raises(RecipeError, match="epoch"):
        list(science.jobs([{"name": "x", "recipe": "digits-demo", "seeds": [0], "epoch": 3}], science.Places(tmp_path)))
