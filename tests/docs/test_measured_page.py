"""The tables of README, docs/measured.md and docs/design/finetuning.md are drawn from the records."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def measured():
    spec = importlib.util.spec_from_file_location("measured", ROOT / "benchmarks" / "measured.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(ROOT / "benchmarks"))
        spec.loader.exec_module(module)
    return module


def test_pages_are_up_to_date_with_the_records(measured):
    for page in measured.PAGES:
        text = page.read_text(encoding="utf-8")
        assert measured.drawn(text) == text, f"run python benchmarks/measured.py to draw {page.name} anew"


def test_every_table_is_on_a_page(measured):
    text = "".join(page.read_text(encoding="utf-8") for page in measured.PAGES)
    for name, table in measured.tables().items():
        assert f"<!-- {name}: " in text
        assert table in text


def test_a_figure_that_is_changed_by_hand_is_noticed(measured):
    text = measured.PAGES[0].read_text(encoding="utf-8")
    assert measured.drawn(text.replace("| ResNet-18 | 2 |", "| ResNet-18 | 3 |")) == text
