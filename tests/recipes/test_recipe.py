import pytest
import yaml

from convgate.errors import RecipeError
from convgate.recipes.library import list_recipes
from convgate.recipes.read import dump_recipe, load_recipe
from convgate.recipes.recipe import Distillation, ModelChoice, Recipe
from convgate.recipes.stages import DenseStage


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("title: mine\ngated: {epochs: 3, milestones: [0.2, 0.3]}\nmodel: {options: {num_classes: 7}}\n")
    return path


def test_a_file_sets_what_it_names_and_leaves_the_rest_at_its_default(recipe_file):
    recipe = load_recipe(recipe_file)
    assert (recipe.title, recipe.gated.epochs, recipe.gated.milestones) == ("mine", 3, (0.2, 0.3))
    assert recipe.model.options == {"num_classes": 7}
    assert recipe.dense == DenseStage()


def test_overrides_win_over_the_file(recipe_file):
    recipe = load_recipe(recipe_file, ["--gated.epochs", "5", "--method.options.group=3", "--budget", "0.25"])
    assert (recipe.gated.epochs, recipe.method.options, recipe.budget) == (5, {"group": 3}, 0.25)


def test_a_teacher_in_a_file_and_on_the_command_line(recipe_file, tmp_path):
    assert load_recipe(recipe_file).distillation == Distillation(0.0, False, 1.0, None)
    recipe_file.write_text("distillation: {weight: 0.5, temperature: 4, teacher: {name: resnet18, weights: a.st}}\n")
    recipe = load_recipe(recipe_file, ["--distillation.weight", "0.25", "--distillation.teacher.name", "resnet34"])
    assert recipe.distillation == Distillation(0.25, False, 4.0, ModelChoice("resnet34", weights="a.st"))
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_recipe(recipe))
    assert load_recipe(copy) == recipe


def test_a_file_takes_from_its_base_what_it_does_not_set(recipe_file, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "first.yaml").write_text("base: ../mine.yaml\ngated: {lr: 0.5}\nseed: 3\n")
    last = tmp_path / "last.yaml"
    last.write_text("base: deep/first.yaml\nseed: 4\ngated: {milestones: [0.5]}\nmodel: {options: {width: 4}}\n")
    recipe = load_recipe(last, ["--gated.epochs=9"])
    assert (recipe.title, recipe.seed, recipe.model.options) == ("mine", 4, {"num_classes": 7, "width": 4})
    assert (recipe.gated.epochs, recipe.gated.lr, recipe.gated.milestones) == (9, 0.5, (0.5,))


def test_of_several_bases_the_last_one_counts(recipe_file, tmp_path):
    (tmp_path / "more.yaml").write_text("gated: {epochs: 8}\nseed: 3\n")
    (tmp_path / "last.yaml").write_text("base: [mine.yaml, more.yaml]\nseed: 4\n")
    recipe = load_recipe(tmp_path / "last.yaml")
    assert (recipe.title, recipe.gated.epochs, recipe.gated.milestones, recipe.seed) == ("mine", 8, (0.2, 0.3), 4)


def test_bases_that_are_missing_or_go_in_circles_are_refused(tmp_path):
    lost, one, other = (tmp_path / f"{name}.yaml" for name in ("lost", "one", "other"))
    lost.write_text("base: nowhere.yaml\n")
    one.write_text("base: other.yaml\n")
    other.write_text("base: one.yaml\n")
    with pytest.raises(RecipeError, match=r"no file .*nowhere\.yaml"):
        load_recipe(lost)
    with pytest.raises(RecipeError, match="based on it"):
        load_recipe(one)


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_loads_and_survives_a_round_trip(name, tmp_path):
    recipe = load_recipe(name)
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_recipe(recipe))
    assert load_recipe(copy) == recipe
    assert set(yaml.safe_load(dump_recipe(recipe))) == set(Recipe.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("surprise: 1", "surprise"),
        ("gated: {epochz: 3}", "epochz"),
        ("gated: {epochs: many}", "many"),
        ("gated: {epochs: -1}", "-1"),
        ("gated: {schedule: linear}", "linear"),
        ("gated: {lr: 0}", "lr"),
        ("gated: {momentum: 1}", "momentum"),
        ("gated: {milestones: [1.5]}", "milestones"),
        ("budget: 1.5", "1.5"),
        ("budget: 0", "budget"),
        ("seed: -1", "seed"),
        ("calibration_images: 0", "calibration_images"),
        ("augmentation: {padding: mirror}", "mirror"),
        ("distillation: {weight: -1}", "weight"),
        ("distillation: {temperature: 0}", "temperature"),
        ("distillation: {weight: 2, convex: true}", "convex"),
        ("gated: {gamma: 0}", "gamma"),
        ("gated: {optimiser: adam}", "adam"),
        ("distillation: {teacher: {nam: x}}", "teacher"),
        ("hardware: {precision: float8}", "float8"),
        ("hardware: {threads: 0}", "threads"),
        ("finish: {lr: -1}", "lr"),
        ("finish: {quantized: true}", "no epochs"),
        ("gated: {quantized: true}", "quantized"),
        ("{finish: {quantized: true, epochs: 2}, hardware: {graphs: true}}", "hardware.graphs"),
        ("{finish: {quantized: true, epochs: 2}, hardware: {compile: true}}", "hardware.compile"),
        ("{finish: {quantized: true, epochs: 2}, method: {masks: random}, budget: 0.5}", "random masks"),
        ("- just\n- a list", "mine.yaml"),
        ("title: [unclosed", "mine.yaml"),
    ],
)
def test_a_bad_recipe_is_refused_and_the_culprit_named(recipe_file, text, named):
    recipe_file.write_text(text)
    with pytest.raises(RecipeError, match=r"(?s).*" + named.replace(".", r"\.")):
        load_recipe(recipe_file)


@pytest.mark.parametrize("override", [["--gated.epochz", "3"], ["--gated.epochs", "x"], ["stray"], ["--budget", "2"]])
def test_a_bad_override_is_refused(recipe_file, override):
    with pytest.raises(RecipeError):
        load_recipe(recipe_file, override)


def test_a_missing_recipe_is_refused_and_the_closest_named():
    with pytest.raises(RecipeError, match="did you mean digits-demo"):
        load_recipe("digit-demo")
    with pytest.raises(RecipeError, match="convgate recipe"):
        load_recipe("zzz")


def test_a_part_of_an_option_is_overridden_alone(recipe_file):
    both = '{"name": "DualGating", "options": {"group": 2, "tile": 4}}'
    recipe = load_recipe(
        recipe_file,
        [
            "--method.name=Combined",
            f"--method.options={{gates: {both}, penalties: [{{name: BatchShaping}}]}}",
            "--method.options.gates.options.tile=2",
            "--method.options.gates.options.reduction", "8",
        ],
    )  # fmt: skip
    options = {"group": 2, "tile": 2, "reduction": 8}
    assert recipe.method.options["gates"] == {"name": "DualGating", "options": options}
    assert recipe.method.options["penalties"] == [{"name": "BatchShaping"}]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--method.name=Mine", "there is no method 'Mine'"),
        ("--method.options={groups: 3}", "no option 'groups'"),
        ("--method.options={group: 0}", "whole number of at least 1"),
    ],
)
def test_a_method_that_does_not_exist_is_named_at_once(recipe_file, override, words):
    with pytest.raises(RecipeError, match=words):
        load_recipe(recipe_file, [override])
