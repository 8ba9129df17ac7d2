"""docs/models.md is what benchmarks/models.py writes from its record, and the record is whole."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sweep():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("models_sweep", ROOT / "benchmarks" / "models.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_the_page_is_up_to_date_with_the_record(sweep):
    assert sweep.page(*sweep.read()) == sweep.PAGE.read_text()


def test_the_record_is_of_what_was_drawn(sweep):
    draw, results = sweep.read()
    assert len(draw["models"]) >= 150
    drawn = {entry["name"]: (entry["method"], entry["seed"]) for entry in draw["models"]}
    assert drawn.keys() == results.keys()
    assert all(drawn[name] == (result["method"], result["seed"]) for name, result in results.items())


def test_nothing_is_wrong_and_nothing_crashes(sweep):
    _, results = sweep.read()
    assert {result["outcome"] for result in results.values()} <= {"ok", "refused", "time", "memory"}
    assert all(result["text"] for result in results.values() if result["outcome"] == "refused")


def test_an_architecture_of_the_record_still_holds(sweep):
    draw, _ = sweep.read()
    small = next(entry for entry in draw["models"] if entry["name"] == "mnasnet0_5")
    facts = {}
    for found in sweep.examine(**small):
        facts |= found
    assert facts["engine_error"] <= sweep.ENGINE_TOLERANCE
