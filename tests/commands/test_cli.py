"""The command line as a user meets it: help, results on stdout, mistakes explained on stderr with status 2."""

import json
import re

import pytest

from convgate.cli import COMMANDS, main
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
    assert all(f"    {name} " in text for name in NAMES)


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
        (["plan", "cifar_resnet20", "--option", "macs=2"], "macs=2"),
        (["plan", "cifar_resnet20", "--size", "0"], "--size 0"),
        (["plan", "cifar_resnet20", "--option", "tile={"], "tile={"),
        (["train", "nothing.yaml"], "nothing.yaml"),
        (["train", "digits-demo", "--hardware.devices", "0"], "devices"),
        (["train", "digits-demo", "--hardware.accelerator", "abacus"], "abacus"),
        (["train", "digits-demo", "--gated.epochz", "2"], "epochz"),
        (["recipe", "nothing"], "nothing"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(arguments, named, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"convgate {arguments[0]}: ")
    assert named in captured.err


def test_unknown_options_of_other_commands_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plan", "cifar_resnet20", "--colour"])
    assert stop.value.code == 2
    assert "--colour" in capsys.readouterr().err


def test_recipes_are_listed_shown_and_described(capsys):
    assert main(["recipe"]) == 0
    assert "digits-demo" in capsys.readouterr().out
    assert main(["recipe", "digits-demo"]) == 0
    assert "cifar_resnet14" in capsys.readouterr().out
    assert main(["recipe", "--fields"]) == 0
    assert "--gated.epochs" in capsys.readouterr().out


def test_the_demo_in_small(tmp_path, capsys):
    """Everything that `make demo` does, on images and a network that are too small to learn much."""
    small = "--data.options.train=192 --data.options.validation=64 --data.options.test=64 --data.options.size=24"
    short = "--model.name=cifar_resnet8 --dense.epochs=1 --gated.epochs=1 --calibration_images=64"
    hardware = "--hardware.accelerator=cpu --dense.batch_size=64 --gated.batch_size=64"
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
