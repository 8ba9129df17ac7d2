"""The library's face: light to import, complete, documented."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import convgate

MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(convgate.__path__, "convgate.")
    if not any(part.startswith("_") for part in m.name.split("."))
)


def test_import_is_light():
    code = "import convgate, sys; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "torchvision", "timm", "lightning", "numpy", "sklearn", "matplotlib", "rich", "jinja2", "yaml"}
    assert not heavy & set(eval(run.stdout))


@pytest.mark.parametrize("name", convgate.__all__)
def test_every_public_name_resolves(name):
    assert getattr(convgate, name) is not None
    assert name in dir(convgate)
    assert inspect.getdoc(getattr(convgate, name))


def test_unknown_attributes_are_attribute_errors():
    with pytest.raises(AttributeError, match="nonsense"):
        convgate.nonsense  # noqa: B018
    assert not hasattr(convgate, "__path_of_nothing__")


def test_there_is_a_version():
    assert convgate.__version__.count(".") >= 1


@pytest.mark.parametrize("name", MODULES)
def test_public_modules_are_complete_and_documented(name):
    module = importlib.import_module(name)
    if "__all__" not in vars(module):
        pytest.skip("names nothing public")
    assert inspect.getdoc(module)
    for public in module.__all__:
        value = getattr(module, public)
        if inspect.isfunction(value) or inspect.isclass(value):
            own = value.__doc__ and not value.__doc__.startswith(f"{public}(")  # dataclasses make themselves one
            assert own, f"{name}.{public} has no docstring"


@pytest.mark.parametrize("name", MODULES)
def test_public_methods_are_documented(name):
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", []):
        value = getattr(module, public)
        if not inspect.isclass(value) or value.__module__ != name:
            continue
        for key, member in vars(value).items():
            # A method that overrides a documented one needs no words of its own: `getdoc` finds the base's.
            if inspect.isfunction(member) and not key.startswith("_"):
                assert inspect.getdoc(getattr(value, key)), f"{name}.{public}.{key} has no docstring"
