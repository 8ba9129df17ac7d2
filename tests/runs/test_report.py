"""The page of a run, from its folder."""

import shutil

import pytest

from convgate.errors import RecipeError
from convgate.runs import Run, report


def test_the_page_is_made_again_from_the_folder(finished, tmp_path):
    run = Run.load(finished)
    assert report(run, tmp_path / "page.html") == tmp_path / "page.html"
    first, again = (path.read_text() for path in (run.folder.report, tmp_path / "page.html"))
    assert again == first
    assert "Stage: dense" in again
    assert "Stage: gated" in again


def test_a_run_that_is_not_finished_has_no_page(finished, tmp_path):
    shutil.copy(finished / "recipe.yaml", tmp_path)
    with pytest.raises(RecipeError, match="no finished run"):
        report(Run.load(tmp_path))
    assert not (tmp_path / "report.html").exists()
