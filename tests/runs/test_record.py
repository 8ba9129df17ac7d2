import json
import shutil
from dataclasses import asdict, replace

import pytest

from convgate.errors import RecipeError
from convgate.recipes.controls import derived
from convgate.recipes.read import dump_recipe, load_recipe
from convgate.recipes.recipe import Distillation, ModelChoice
from convgate.runs.compare import comparison
from convgate.runs.record import read_csv, record_of, to_csv


def test_a_record_holds_what_the_run_was_and_what_came_out(finished):
    record = record_of(finished)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert (record.run, record.recipe, record.network, record.method) == (
        "tiny", "digits-demo", "cifar_resnet8", "DualGating",
    )  # fmt: skip
    assert (record.accuracy, record.macs_share) == (metrics["gated"]["accuracy"], metrics["gated"]["macs_ratio"])
    assert (record.epochs, record.full_epochs) == ("dense 1, gated 2", "dense 18, gated 14")  # digits-demo.yaml
    assert record.latency_threads == 1
    assert record.latency_gated_ms > 0
    assert record.seconds > 0


@pytest.mark.parametrize(
    ("distillation", "teacher"),
    [
        (Distillation(), ""),
        (Distillation(weight=1.0), "dense network"),
        (Distillation(weight=0.5, teacher=ModelChoice("cifar_resnet56")), "cifar_resnet56"),
    ],
)
def test_the_teacher_is_named(finished, tmp_path, distillation, teacher):
    shutil.copytree(finished, tmp_path / "copy")
    recipe = replace(load_recipe(finished / "recipe.yaml"), distillation=distillation)
    (tmp_path / "copy" / "recipe.yaml").write_text(dump_recipe(recipe))
    assert record_of(tmp_path / "copy").teacher == teacher


def test_a_control_of_another_width_has_the_rows_teacher(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    row = load_recipe(finished / "recipe.yaml", ["--distillation.weight=1", "--model.weights=w.safetensors"])
    (tmp_path / "copy" / "recipe.yaml").write_text(dump_recipe(derived(row, "squeeze", of="digits-demo")))
    assert record_of(tmp_path / "copy").teacher == "dense network"


def test_methods_that_a_method_names_are_named(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    text = (finished / "recipe.yaml").read_text()
    combined = (
        "name: Combined\n  options: {gates: {name: BatchShaping}, penalties: [{name: DualGating}]}\n  weights: null\n"
    )
    start, end = text.index("name: DualGating"), text.index("gated:\n")
    (tmp_path / "copy" / "recipe.yaml").write_text(text[:start] + combined + text[end:])
    assert record_of(tmp_path / "copy").method == "Combined(BatchShaping, DualGating)"


def test_a_table_is_read_as_it_was_written(finished, tmp_path):
    records = [record_of(finished)]
    (tmp_path / "runs.csv").write_text(to_csv(records))
    assert read_csv(tmp_path / "runs.csv") == records
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RecipeError, match=r"other\.csv is not a table of runs"):
        read_csv(tmp_path / "other.csv")


def _cut(text):
    """Without the last cells of its last row, as a table that was written in part."""
    return text.rstrip("\n").rsplit(",", 4)[0] + "\n"


DAMAGE = {
    "cut off": lambda text: _cut(text).encode(),
    "no UTF-8": lambda text: text.encode() + b"\xff",
    "a cell between others": lambda text: text.replace("cifar_resnet8", "cifar_resnet8,x").encode(),
    "a cell too many": lambda text: (text.rstrip("\n") + ",x\n").encode(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table_is_refused(finished, tmp_path, damage):
    path = tmp_path / "runs.csv"
    path.write_bytes(DAMAGE[damage](to_csv([record_of(finished)])))
    with pytest.raises(RecipeError, match=r"runs\.csv is not a table of runs"):
        read_csv(path)


@pytest.mark.parametrize("settings", ["{", "[]", '{"method": 3}', '{"method": {"options": 3}}', "[" * 100_000])
def test_settings_that_are_no_recipe_are_refused(finished, tmp_path, settings):
    path = tmp_path / "runs.csv"
    path.write_text(to_csv([replace(record_of(finished), settings=settings)]))
    with pytest.raises(RecipeError, match=r"runs\.csv is not a table of runs"):
        read_csv(path)


def test_a_record_without_settings_has_its_command(finished):
    record = replace(record_of(finished), settings="", recipe="")
    assert record.options == {}
    assert record.again == record.command


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="not the folder of a run"):
        record_of(tmp_path)


def test_a_comparison_has_a_row_for_each(finished):
    record = record_of(finished)
    table = comparison([record, record])
    assert table.row_count == 2
    assert len(table.columns) <= len(asdict(record))
