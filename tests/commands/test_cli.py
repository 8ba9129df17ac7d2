"""The command line as a user meets it: help, results on stdout, mistakes explained on stderr with status 2."""

import json
import re
import runpy
import sys

import pytest

from convgate.cli import _ELSEWHERE, COMMANDS, main, parsers
from convgate.commands.console import PRECISIONS
from convgate.engine.precision import Precision
from convgate.methods import METHODS

NAMES = [module.__name__.rpartition(".")[2] for module in COMMANDS]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_that_explains_each_option(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: convgate")
    options = text.split("options:")[1]
    for line in options.splitlines():
        # An option whose help is on the same line or the next, never missing.
        if line.strip().startswith("--"):
            assert len(line.split()) > 2 or line.rstrip() != options.rstrip().splitlines()[-1], line


def test_the_first_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(re.search(rf"^    {name}\b", text, re.MULTILINE) for name in NAMES)  # a long name has a line of its own


def test_it_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["convgate/__main__.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("convgate", run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: convgate")


def test_plan_prints_a_table(capsys):
    assert main(["plan", "cifar_resnet20"]) == 0
    text = capsys.readouterr().out
    assert "40,813,184" in text  # DGNet's code, dense MACs of its ResNet-20
    assert "layer1.0" in text
    assert "downsample" in text


@pytest.mark.parametrize("method", METHODS)
def test_plan_knows_every_method(method, capsys):
    assert main(["plan", "cifar_resnet8", "--method", method]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert re.search(rf"CifarResNet x {method}: \d+ sites, \d+ gates; 12,501,632 dense MACs", text)


def test_plan_prints_json(capsys):
    assert main(["plan", "cifar_resnet20", "--option", "tile=1", "--option", "channel=false", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["dense_macs"] == 40_813_184
    assert planned["sites"][0]["gates"][0]["shape"] == [1, 32, 32]
    assert len(planned["sites"]) == 9


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["plan", "resnet1800"], "resnet1800"),
        (["plan", "timm/nothing"], "nothing"),
        (["plan", "cifar_resnet20", "--method", "Magic"], "Magic"),
        (["plan", "cifar_resnet20", "--option", "tiel=2"], "tiel"),
        (["plan", "cifar_resnet20", "--option", "tile"], "NAME=VALUE"),
        (["plan", "cifar_resnet20", "--option", "budget=2"], "budget=2"),
        (["plan", "cifar_resnet20", "--size", "0"], "size 0"),
        (["plan", "cifar_resnet20", "--option", "tile={"], "tile={"),
        (["train", "nothing.yaml"], "nothing.yaml"),
        (["train", "digits-demo", "--hardware.devices", "0"], "devices"),
        (["train", "digits-demo", "--hardware.accelerator", "abacus"], "abacus"),
        (["train", "digits-demo", "--gated.epochz", "2"], "epochz"),
        (["recipe", "nothing"], "nothing"),
        (["recipe", "digits-demo", "--fields"], "leave digits-demo out"),
        (["plan", "resnet18", "--model-option", "num_classes=-1", "--size", "32"], "cannot be built"),
        (["report", "tests", "--data", "x"], "not the folder of a run"),
        (["train", "digits-demo", "--epochs", "0"], "at least 1"),
        (["train", "digits-demo", "--minutes", "0"], "more than 0"),
        (["evaluate", "nothing.safetensors"], "no file and no folder nothing.safetensors"),
        (["evaluate", "nothing.safetensors", "--recipe", "digits-demo"], "nothing.safetensors"),
        (["compare", "nothing"], "no folder nothing"),
        (["compare", "."], "not the folder of a run"),
        (["train", "digit-demo"], "did you mean digits-demo or digits-detection?"),
        (["report", "."], "not the folder of a run"),
        (["evaluate", "pyproject.toml", "--save"], "--save"),
        (["sweep", "digits-demo", "--budgets", "half"], "--budgets half"),
        (["sweep", "digits-demo", "--macs", "0.5,2"], "2.0"),
        (["results", "nothing"], "no folder"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(arguments, named, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"convgate {arguments[0]}: ")
    assert named in captured.err


@pytest.mark.parametrize("arguments", [["train", "digits-demo", "--epoch", "3"], ["demo", "--fres"]])
def test_options_are_never_guessed(arguments, capsys):
    """A beginning of --epochs is not --epochs but a field of the recipe that does not exist."""
    assert main(arguments) == 2
    assert arguments[-2 if arguments[0] == "train" else -1].lstrip("-") in capsys.readouterr().err


def test_ctrl_c_promises_to_continue_only_where_that_is_so(capsys, monkeypatch):
    from convgate.commands import plan

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "run", interrupted)
    assert main(["plan", "resnet18"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_every_command_prints_json_and_nothing_is_guessed():
    _, commands = parsers()
    for name, parser in commands.items():
        assert "--json" in parser.options, name
        assert not parser.allow_abbrev, name


def test_the_precisions_are_the_engines():
    assert tuple(Precision) == PRECISIONS


def test_options_of_one_name_have_one_meaning():
    """What several commands share is described in the same words, with the same default."""
    shared = {"--method", "--option", "--model-option", "--architecture", "--size", "--data", "--json"}
    seen = {}
    for name, parser in parsers()[1].items():
        for action in parser._actions:
            for option in shared & {*action.option_strings}:
                if option == "--data" and name in ("train", "sweep"):
                    continue  # short for a field of the recipe
                described = action.help, action.default
                assert seen.setdefault(option, described) == described, f"{name} {option}"


def test_a_method_has_other_spellings(capsys):
    assert main(["plan", "cifar_resnet8", "--method", "dual"]) == 0
    assert "CifarResNet x DualGating" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "cifar10-resnet20-dual-50", "--data", "nowhere"],
        ["train", "digits-demo", "--model.weights", "nothing.pth", "--data.options.train=64"],
        ["sweep", "cifar10-resnet20-dual-50", "--budgets", "0.3,0.5", "--data", "nowhere"],
        ["bench", "cifar_resnet8", "--option", "tiel=3"],
    ],
)
def test_a_command_that_fails_leaves_nothing_behind(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_other_tools_call_a_command_is_answered_with_a_command_that_there_is(capsys):
    for name, known in _ELSEWHERE.items():
        with pytest.raises(SystemExit, match="2"):
            main([name])
        assert f"that is `convgate {known}`" in capsys.readouterr().err
        options = parsers()[1][known.split()[0]].options
        assert all(word in options for word in known.split() if word.startswith("--"))


def test_unknown_options_of_other_commands_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plan", "cifar_resnet20", "--colour"])
    assert stop.value.code == 2
    assert "--colour" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # what another action takes is not suggested
        main(["hardware", "record", "x.cgm", "--out", "x.cgt", "--accelerator", "x"])
    told = capsys.readouterr().err
    assert "did you mean --accelerator" not in told
    assert "`convgate hardware record --help`" in told


def test_recipes_are_listed_shown_and_described(capsys):
    assert main(["recipe"]) == 0
    assert "digits-demo" in capsys.readouterr().out
    assert main(["recipe", "digits-demo"]) == 0
    assert "cifar_resnet14" in capsys.readouterr().out
    assert main(["recipe", "--fields"]) == 0
    fields = capsys.readouterr().out
    assert "--gated.epochs" in fields
    assert len(fields.split("options:")[0].splitlines()) < 5
    assert main(["recipe", "--fields", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)["fields"]
    assert described["gated.epochs"] == "passes over the training images."
    assert all(described.values())
    assert main(["recipe", "--json"]) == 0
    assert "digits-demo" in json.loads(capsys.readouterr().out)["recipes"]
    assert main(["recipe", "digits-demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["name"] == "cifar_resnet14"


def test_the_demo_in_small(tmp_path, capsys):
    """Everything that `make demo` does, on images and a network that are too small to learn much."""
    small = "--data.options.train=192 --data.options.validation=64 --data.options.test=64 --data.options.size=24"
    short = "--model.name=cifar_resnet8 --dense.epochs=1 --gated.epochs=1 --calibration_images=64"
    hardware = "--hardware.accelerator=cpu --hardware.timing_seconds=0.05 --dense.batch_size=64 --gated.batch_size=64"
    folder = tmp_path / "demo"
    arguments = ["demo", "--out", str(folder), "--json", *small.split(), *short.split(), *hardware.split()]
    assert main(arguments) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics == json.loads((folder / "metrics.json").read_text())
    assert set(metrics["gated"]) >= {"accuracy", "macs_ratio", "macs_percentiles"}
    assert "<svg" in (folder / "report.html").read_text() or "data:image/svg" in (folder / "report.html").read_text()
    assert (folder / "network.safetensors").is_file()
    # Other settings in a folder of one's own: only if asked.
    assert main([*arguments, "--seed=1"]) == 2
    assert "another recipe" in capsys.readouterr().err
    assert main([*arguments, "--seed=1", "--fresh"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 1


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(tmp_path, capsys, monkeypatch):
    from convgate.training.callbacks import History

    folder = tmp_path / "run"
    small = "--data.options.train=64 --data.options.validation=32 --data.options.test=32 --data.options.size=24"
    short = "--model.name=cifar_resnet8 --dense.epochs=2 --gated.epochs=1 --dense.batch_size=32 --gated.batch_size=32"
    command = ["train", "digits-demo", "--out", str(folder), "--json", *small.split(), *short.split()]
    command += ["--calibration_images=32", "--hardware.accelerator=cpu", "--hardware.timing_seconds=0"]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_end", interrupted)
        assert main(command) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert main(command) == 0
    finished = json.loads(capsys.readouterr().out)

    # And what looks at finished runs: evaluation, comparison, a page of results.
    assert main(["evaluate", str(folder), "--seconds", "0.2", "--threads", "1", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["gated"] == finished["gated"]
    assert evaluated["dense"] == finished["dense"]
    assert evaluated["latency"]["threads"] == 1
    assert main(["compare", str(folder), str(folder)]) == 0
    assert capsys.readouterr().out.count("DualGating") == 2
    assert main(["compare", str(folder), "--csv"]) == 0
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "run.csv").write_text(capsys.readouterr().out)
    assert main(["compare", str(folder), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)["runs"][0]
    assert record["accuracy"] == finished["gated"]["accuracy"]
    assert main(["results", str(tmp_path / "results")]) == 0
    assert f"{record['accuracy']:.2%}" in (tmp_path / "results" / "README.md").read_text()
