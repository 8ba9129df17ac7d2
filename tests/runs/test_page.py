import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from convgate.errors import RecipeError
from convgate.files import write_text
from convgate.recipes.library import list_recipes
from convgate.runs.page import add, read_published, write_page
from convgate.runs.record import read_csv, record_of, to_csv

RESULTS = Path(__file__).parents[2] / "results"
ROW = """\
- paper: Nobody, 1999
  source: table 1
  network: ResNet-8
  data: digits
  what: gated
  result: 99.9 %
  recipes: [digits-demo, other]
"""


def test_a_run_stands_beside_the_papers_number_with_its_command(finished, tmp_path):
    (tmp_path / "published.yaml").write_text(ROW)
    assert add([finished], tmp_path) == [tmp_path / "tiny.csv"]
    text = write_page(tmp_path).read_text()
    record = record_of(finished)
    row = next(line for line in text.splitlines() if line.startswith("| [tiny]"))
    assert f"**{record.accuracy:.2%}**" in row
    assert "dense 1, gated 2 of dense 18, gated 14" in row
    assert "gated: 99.9 % (Nobody, 1999, table 1)" in row
    assert record.again in text
    assert "digits-demo (run); other (not run)" in text
    assert write_page(tmp_path).read_text() == text
    assert not list(tmp_path.glob("*.svg"))  # one run makes no figure

    other = replace(record, run="other", method="Other", macs_share=0.4, budget=0.4)
    (tmp_path / "other.csv").write_text(to_csv([other]))
    text = write_page(tmp_path).read_text()
    name = f"{record.data}-{record.network}.svg"
    assert f"]({name})" in text
    assert f"other {100 * other.accuracy:.2f}% at 40" in text
    figure = (tmp_path / name).read_text()
    assert record.method in figure
    assert "Other" in figure

    # Runs of one budget differ in latency.
    (tmp_path / "other.csv").write_text(to_csv([replace(other, budget=record.budget, latency_gated_ms=0.125)]))
    assert f"other {100 * other.accuracy:.2f}% at 0.125" in write_page(tmp_path).read_text()


def test_one_training_at_two_budgets_is_told_from_two_that_began_together(finished, tmp_path):
    record = record_of(finished)
    settings = json.loads(record.settings)
    for run, changes in {"again": {"budget": 0.9}, "apart": {"title": "another"}}.items():
        other = replace(record, run=run, settings=json.dumps(settings | changes))
        (tmp_path / f"{run}.csv").write_text(to_csv([other]))
    add([finished], tmp_path)
    text = write_page(tmp_path).read_text()
    assert text.count("One training with again, calibrated to another budget.") == 1
    assert text.count("One training with tiny, calibrated to another budget.") == 1
    assert text.count("One training with") == 2


def test_networks_without_gates_have_a_row_and_no_controls(finished, tmp_path):
    dense = replace(record_of(finished), run="plain", method="none", epochs="dense 3", measured="validation")
    (tmp_path / "plain.csv").write_text(to_csv([dense]))
    add([finished], tmp_path)
    text = write_page(tmp_path).read_text()
    assert "| [plain](#plain) |" in text
    beside = text.partition("## Beside their controls")[2].partition("## ")[0]
    assert beside.count("**gated**") == 1
    assert f"{dense.test_images:,} held-out images." in text


def test_what_the_engine_answers_in_low_precision(finished, tmp_path):
    record = replace(record_of(finished), accuracy=0.9, latency_gated_ms=2.0)
    record = replace(record, dense_accuracy=0.95, latency_dense_ms=4.0, macs_share=0.55)
    half = {"accuracy": 0.8951, "dense_accuracy": 0.94, "macs_share": 0.5, "ms": 1.25, "dense_ms": 2.5}
    known = {
        "one": {"bf16": half, "int8": {**half, "ms": None, "dense_accuracy": None}},
        "two": {"bf16": half},
        "three": {},
    }
    for name, precisions in known.items():
        row = replace(record, run=name, precisions=json.dumps(precisions) if precisions else "")
        write_text(tmp_path / f"{name}.csv", to_csv([row]))
    text = write_page(tmp_path).read_text()
    part = text[text.index("## In bfloat16") : text.index("## Beside")]
    first = "95.00% → 90.00% | 55.00% | 4.000 → 2.000 | 94.00% → 89.51% | 50.00% | 2.500 → 1.250"
    assert f"| [one](#one) | {first} | - → 89.51% | 50.00% | 2.500 → - |" in part
    assert f"| [two](#two) | {first} | - → - | - | - → - |" in part
    assert "three" not in part
    for damaged in ("{", "[]", '{"bf16": 1}', '{"bf16": {"ms": 1}}'):
        write_text(tmp_path / "one.csv", to_csv([replace(record, precisions=damaged)]))
        with pytest.raises(RecipeError, match=r"one\.csv is not a table of runs"):
            write_page(tmp_path)


def test_a_run_of_another_recipe_does_not_take_a_rows_place(finished, tmp_path):
    first, second = (shutil.copytree(finished, tmp_path / name / "same") for name in "ab")
    (written,) = add([first], tmp_path / "rows")
    before = written.read_text()
    assert add([second], tmp_path / "rows", note="again") == [written]  # the same run
    assert "again" in written.read_text()
    add([first], tmp_path / "rows")
    # A row that was written before a field existed, and on another number of threads, is of the same run.
    (record,) = read_csv(written)
    settings = json.loads(record.settings)
    del settings["finish"]["quantized"]
    settings["hardware"]["threads"] = 7
    written.write_text(to_csv([replace(record, settings=json.dumps(settings))]))
    add([first], tmp_path / "rows")
    assert read_csv(written) == [record]
    recipe = second / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seed: 0\nhardware", "seed: 1\nhardware"))
    for runs in ([second], [first, second]):
        with pytest.raises(RecipeError, match="is not the run 'same'"):
            add(runs, tmp_path / "rows")
    with pytest.raises(RecipeError, match="is not the run 'same'"):
        add([first, second], tmp_path / "others")
    assert not (tmp_path / "others").exists()
    assert written.read_text() == before


def test_another_readme_is_not_replaced(finished, tmp_path):
    (tmp_path / "README.md").write_text("# My project\n")
    for write in (write_page, partial(add, [finished])):
        with pytest.raises(RecipeError, match="is not a page of results"):
            write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "# My project\n"


def test_a_page_without_runs_says_so(tmp_path):
    (tmp_path / "published.yaml").write_text(ROW)
    text = write_page(tmp_path).read_text()
    assert "No run is recorded yet." in text
    assert "Where each row comes from" not in text
    assert "digits-demo (not run); other (not run)" in text


def test_folders_and_files_of_another_form_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="no folder"):
        write_page(tmp_path / "nothing")
    (tmp_path / "published.yaml").write_text("- paper: x\n")
    with pytest.raises(RecipeError, match="published"):
        write_page(tmp_path)


@pytest.mark.parametrize(
    "page", [RESULTS / "README.md", *RESULTS.glob("*/README.md")], ids=lambda page: page.parent.name
)
def test_the_projects_own_pages_are_what_their_files_make(tmp_path, page):
    copy = shutil.copytree(page.parent, tmp_path / page.parent.name)
    (copy / "README.md").unlink()
    assert write_page(copy).read_text() == page.read_text()


def test_pages_in_folders_are_named(finished, tmp_path):
    add([finished], tmp_path / "results" / "ablations")
    write_page(tmp_path / "results" / "ablations")
    text = write_page(tmp_path / "results").read_text()
    assert text.startswith("# Results\n")
    assert "[ablations](ablations/README.md)" in text
    assert (tmp_path / "results" / "ablations" / "README.md").read_text().startswith("# Ablations\n")


def test_the_papers_rows_name_recipes_that_are_shipped():
    for row in read_published(RESULTS / "published.yaml"):
        assert set(row.recipes) <= set(list_recipes()), row
