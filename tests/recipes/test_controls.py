"""Controls are their rows but for what their names say."""

from dataclasses import asdict, dataclass
from typing import ClassVar

import pytest

from convgate.cost import count_macs
from convgate.errors import RecipeError
from convgate.gated import Ablation
from convgate.methods import METHODS, DualGating, register_method
from convgate.models import ModelSpec, create
from convgate.models.widen import count_parameters
from convgate.recipes.controls import derived, list_controls
from convgate.recipes.identity import differences
from convgate.recipes.library import list_recipes
from convgate.recipes.narrow import narrowed
from convgate.recipes.read import dump_recipe, load_recipe
from convgate.recipes.request import Request

ROW = "cifar10-resnet20-dual-50"
LABELS = {"title", "controls", "control", "control_of"}
SHORT = ("--gated.epochs=24", "--finish.epochs=6", "--dense.epochs=0", "--model.weights=w.safetensors", "--seed=2")


def changed(control, row=ROW, overrides=SHORT):
    """The fields in which a control differs from its row, labels aside: field -> the control's value."""
    found = differences(load_recipe(row, overrides), load_recipe(f"{row}@{control}", overrides))
    return {field: new for field, (_, new) in found.items() if field.partition(".")[0] not in LABELS}


def test_dense_is_the_row_without_gates():
    assert changed("dense") == {
        "method.name": None,
        "method.options": {},
        "budget": None,
        **{f"method.options.{name}": None for name in load_recipe(ROW).method.options},
    }


def test_random_masks_have_no_finish_that_could_round():
    row = load_recipe("cifar10-resnet20-dual-50", [*SHORT, "--finish.quantized=true"])
    assert row.finish.quantized
    assert derived(row, "dense", of="row").finish.quantized
    assert not derived(row, "random", of="row").finish.quantized


def test_random_masks_are_trained_as_the_gates_are():
    assert changed("random") == {"method.masks": "random"}


def test_gates_apart_are_the_same_gates():
    assert changed("apart") == {"method.options.joint": False, "method.options.bounds_weight": 0.0}


def test_unshaped_is_found_among_the_options_of_another_method():
    row = "cifar10-resnet20-batch-shaping-60"
    assert changed("unshaped", row) == {"method.options.gates.options.shaping_weight": 0.0}
    assert changed("unshaped", "cifar10-resnet20-batch-shaping-paper") == {"method.options.shaping_weight": 0.0}
    with pytest.raises(RecipeError, match="changes BatchShaping, and the recipe's method is DualGating"):
        load_recipe(f"{ROW}@unshaped")


def test_a_method_of_somebody_else_brings_its_own_controls():
    @register_method
    @dataclass(frozen=True)
    class Quiet(DualGating):
        ablations: ClassVar = {"mute": Ablation("Without the budget", {"budget_weight": 0.0})}

    try:
        assert list_controls()["mute"] == "Without the budget"
        assert changed("mute", overrides=[*SHORT, "--method.name=Quiet"]) == {"method.options.budget_weight": 0.0}
        with pytest.raises(RecipeError, match="changes Quiet, and the recipe's method is DualGating"):
            load_recipe(f"{ROW}@mute")
    finally:
        METHODS.pop("Quiet")


def test_a_method_may_not_call_its_own_control_as_one_of_any_recipe_is_called():
    words = list_controls()["dense"]

    @register_method
    @dataclass(frozen=True)
    class Loud(DualGating):
        ablations: ClassVar = {
            "dense": Ablation("Something else", {"budget_weight": 0.0}),
            "unshaped": Ablation("With no shape", {"budget_weight": 0.0}),
        }

    try:
        assert list_controls()["dense"] == words
        assert list_controls()["unshaped"].endswith("; or: With no shape")
        with pytest.raises(RecipeError, match="'dense' is a control of any recipe, and Loud calls something else so"):
            load_recipe(f"{ROW}@dense", ["--method.name=Loud"])
        assert load_recipe(f"{ROW}@dense").control == "dense"
    finally:
        METHODS.pop("Loud")


def test_narrower_has_the_rows_macs_and_is_trained_from_scratch_first():
    recipe = load_recipe(f"{ROW}@narrower", SHORT)
    dense = create("cifar_resnet20", shortcut="A")
    narrow = create(recipe.model.name, **recipe.model.options)
    share = count_macs(narrow, (3, 32, 32)) / count_macs(dense, (3, 32, 32))
    assert share == pytest.approx(recipe.budget, rel=0.005)
    assert (recipe.model.weights, recipe.epochs) == (None, {"dense": 200, "gated": 24, "finish": 6})
    row = load_recipe(ROW, SHORT)
    assert row.distillation.teacher is None  # the row's own dense network, which teaches the control, too
    assert recipe.distillation.teacher == row.model
    with pytest.raises(RecipeError, match="no narrower form"):
        narrowed(ModelSpec("cifar_vgg16"), 0.5)


def test_wider_has_the_gated_networks_parameters_and_squeeze_has_its_layers():
    wider = load_recipe("cifar10-resnet20-gaternet@wider")
    # The backbone's, the gater's (option A, 0.27 M each) and those of the gates.
    assert count_parameters(ModelSpec("cifar_resnet20", wider.model.options)) == pytest.approx(0.55e6, rel=0.04)
    assert load_recipe("cifar10-resnet20-gaternet@squeeze").model.options["squeeze"] == 4
    assert wider.dense.epochs == 200


@pytest.mark.parametrize("name", list_recipes())
def test_the_controls_that_a_recipe_names_are_there(name):
    row = load_recipe(name)
    for control in row.controls:
        assert control in list_controls()
        if control not in ("narrower", "wider"):  # they count networks, which takes seconds
            recipe = derived(row, control, of=name)
            assert (recipe.control, recipe.control_of, recipe.controls) == (control, name, ())


def test_a_control_is_a_recipe_like_others(tmp_path):
    recipe = load_recipe(f"{ROW}@random", SHORT)
    (tmp_path / "copy.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "copy.yaml") == recipe


def test_a_request_shortens_the_row_before_the_control_is_made():
    asked = Request(f"{ROW}@random", epochs=24)
    assert asked.recipe.epochs == {"dense": 20, "gated": 24, "finish": 6}
    assert asked.as_written.epochs == {"dense": 200, "gated": 240, "finish": 60}
    with pytest.raises(RecipeError, match="epochs instead of minutes"):
        Request(f"{ROW}@random", minutes=3.0).recipe  # noqa: B018


def test_what_is_no_control_is_named():
    with pytest.raises(RecipeError, match="no control 'dence'; did you mean dense"):
        load_recipe(f"{ROW}@dence")
    with pytest.raises(RecipeError, match="no gates that decide"):
        load_recipe("cifar10-gater-paper@dense")


def test_options_without_a_method_are_refused():
    with pytest.raises(RecipeError, match=r"method\.options"):
        load_recipe(ROW, ["--method.name=null"])
    with pytest.raises(RecipeError, match="random masks"):
        load_recipe("digits-demo", ["--method.masks=random", "--budget=null"])
    assert asdict(load_recipe("cifar10-gater-paper").method)["name"] is None
