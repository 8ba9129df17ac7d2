"""Whose a folder is: what may differ when a run is continued, and what may not."""

from dataclasses import replace

import pytest

from convgate.errors import BudgetError, CheckpointError, ConvgateError, RecipeError
from convgate.recipes.identity import with_start_stated
from convgate.recipes.read import dump_recipe, load_recipe
from convgate.runs import Run, RunFolder, train

ROOT = "--data.options.root="


@pytest.mark.parametrize(
    ("name", "before", "after", "told"),
    [
        ("digits-demo", [], ["--hardware.threads=1"], "hardware.threads: None there, 1 now"),
        ("digits-demo", [], ["--title=x"], "title"),
        ("cifar10-resnet20-dual-50", [ROOT + "/a/cifar.npz"], [ROOT + "/b/cifar.npz"], "data.options.root"),
        (
            "cifar10-resnet20-dual-50",
            ["--model.weights=/a/w.pt"],
            ["--model.weights=/b/w.pt"],
            "model.weights: /a/w.pt there, /b/w.pt now",
        ),
    ],
)
def test_a_run_is_continued_with_other_hardware_titles_and_places(tmp_path, caplog, name, before, after, told):
    caplog.set_level("INFO", "convgate")
    folder = RunFolder(tmp_path)
    folder.claim(load_recipe(name, before))
    assert "continuing" not in caplog.text
    folder.claim(load_recipe(name, after))
    assert told in caplog.text
    assert load_recipe(folder.recipe) == with_start_stated(load_recipe(name, after))


@pytest.mark.parametrize(
    "change",
    [
        "--seed=1",
        "--budget=0.4",
        "--data.options.seed=1",
        "--model.options.width=8",
        "--gated.lr=0.2",
        "--finish.epochs=1",
        "--model.weights=/a/w.pt",
        "--augmentation.pad=3",
    ],
)
def test_what_changes_the_result_is_another_run(tmp_path, change):
    folder, recipe = RunFolder(tmp_path), load_recipe("digits-demo")
    folder.claim(recipe)
    other = load_recipe("digits-demo", [change])
    with pytest.raises(RecipeError, match=change[2:].split("=")[0]):
        folder.claim(other)
    assert folder.holds_other_run(other)
    assert load_recipe(folder.recipe) == folder.read_recipe() == with_start_stated(recipe)


def test_a_recipe_from_before_a_field_was_added_is_continued(tmp_path):
    folder, recipe = RunFolder(tmp_path), load_recipe("digits-demo")
    folder.claim(recipe)
    lines = folder.recipe.read_text().splitlines(keepends=True)
    folder.recipe.write_text("".join(line for line in lines if "workers" not in line and "nesterov" not in line))
    folder.claim(recipe)


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["--data.options.size=3"], ConvgateError),
        (["--model.name=cifar_resnet1"], ConvgateError),
        (["--budget=0.001"], BudgetError),
        (["--hardware.accelerator=mps"], RecipeError),
        (["--hardware.accelerator=tpu"], RecipeError),
    ],
)
def test_a_run_that_fails_before_it_trains_leaves_no_folder(tmp_path, tiny_overrides, overrides, error):
    with pytest.raises(error):
        train(load_recipe("digits-demo", [*tiny_overrides, *overrides]), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_stages_keep_their_kind():
    recipe = load_recipe("digits-demo")
    assert replace(recipe, finish=recipe.gated).finish.gates is recipe.finish.gates


@pytest.mark.parametrize("method", ["DualGating", "Combined"])
def test_a_run_of_before_init_existed_started_as_the_paper_does(tmp_path, method):
    recipe = load_recipe("digits-demo", ["--method.options={}", f"--method.name={method}"])
    folder = RunFolder(tmp_path)
    folder.recipe.write_text(dump_recipe(recipe))  # as earlier versions wrote it: what was left open is not in it
    then = folder.read_recipe().method.options
    if method == "DualGating":
        assert then == {"init": "paper"}
        assert folder.holds_other_run(recipe)
        assert not folder.holds_other_run(load_recipe("digits-demo", ["--method.options={init: paper}"]))
    folder.recipe.unlink()
    folder.claim(recipe)
    assert folder.read_recipe().method.options.get("init") == ("whole" if method == "DualGating" else None)
    assert not folder.holds_other_run(recipe)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b'"x"', b'{"full": "\xff"}', b"[" * 100_000])
@pytest.mark.parametrize("name", ["origin", "metrics", "timing"])
def test_damaged_notes_are_told_of(tmp_path, name, content):
    folder = RunFolder(tmp_path)
    folder.claim(load_recipe("digits-demo"))
    path = getattr(folder, name)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=path.name):
        folder.seconds() if name == "timing" else Run.load(tmp_path)


@pytest.mark.parametrize("content", [b"epoch,loss\n1,x\n", b"epoch\n1,2,3\n", b"epoch\n\xff\n"])
def test_a_damaged_table_of_epochs_is_told_of(tmp_path, content):
    recipe = load_recipe("digits-demo")
    folder = RunFolder(tmp_path)
    folder.claim(recipe)
    folder.during(recipe.gated).mkdir()
    folder.epochs(recipe.gated).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"epochs\.csv is damaged"):
        Run.load(tmp_path).epochs(recipe.gated)
