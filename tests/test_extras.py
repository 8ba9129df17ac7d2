"""What is missing is said with the extra's name."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from convgate.errors import ConvgateError
from convgate.extras import EXTRAS, missing

PYPROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
PACKAGES = {"yaml": "pyyaml", "PIL": "pillow", "faster_coco_eval": "faster-coco-eval", "MNN": "mnn"}
"""Module -> the package that brings it, where the names differ."""


def test_the_runtime_needs_numpy_and_safetensors_alone():
    assert sorted(name.partition(">")[0] for name in PYPROJECT["dependencies"]) == ["numpy", "safetensors"]


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_installs_the_modules_that_it_is_named_for(extra):
    listed = " ".join(PYPROJECT["optional-dependencies"][extra]).lower()
    assert all(PACKAGES.get(module, module) in listed for module in EXTRAS[extra])


def test_a_missing_library_is_named_with_its_extra():
    error = missing(ModuleNotFoundError(name="lightning.pytorch"))
    assert isinstance(error, ConvgateError)
    assert isinstance(error, ImportError)
    assert "pip install 'convgate[train]'" in str(error)
    assert missing(ModuleNotFoundError(name="nonsense")) is None
    assert "pip install 'convgate[hardware]' or 'convgate[train]'" in str(missing(ModuleNotFoundError(name="yaml")))


BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def _without(*modules, code):
    script = BLOCKED.format(blocked=set(modules)) + code
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_without_torch_the_engine_loads_and_gate_says_what_to_install():
    assert _without("torch", code="import convgate; convgate.engine.load").returncode == 0
    run = _without("torch", code="import convgate; convgate.gate")
    assert "MissingDependencyError" in run.stderr
    assert "pip install 'convgate[torch]'" in run.stderr


def test_the_command_line_says_what_to_install():
    run = _without("torch", code="from convgate.cli import main; sys.exit(main(['plan', 'cifar_resnet8']))")
    assert run.returncode == 2
    assert "pip install 'convgate[torch]'" in run.stderr
    assert "Traceback" not in run.stderr


def test_submodules_are_there_without_an_import_of_their_own():
    code = "import convgate; convgate.engine.load; convgate.methods.load_dgnet_weights"
    subprocess.run([sys.executable, "-c", code], check=True)
