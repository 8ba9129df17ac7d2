"""The examples in docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import convgate

MODULES = sorted(m.name for m in pkgutil.walk_packages(convgate.__path__, "convgate.") if "._" not in m.name)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in finder.find(module, name):
        runner.run(test)
    assert runner.failures == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    assert any(test.examples for name in MODULES for test in finder.find(importlib.import_module(name)))
