"""What a stage of training leaves on the network that it trains."""

from convgate.data import load
from convgate.recipes.read import load_recipe
from convgate.training.fit import training_steps
from convgate.training.parts import build_model, teaching

SMALL = (
    "--task_options.crop=64",
    "--model.options.width=8",
    "--model.options.tower=1",
    *(f"--data.options.{name}={n}" for name, n in {"train": 4, "validation": 2, "test": 2}.items()),
    "--data.options.least=64",
    "--data.options.most=96",
    "--gated.batch_size=2",
    "--hardware.workers=0",
    "--hardware.threads=1",
    "--distillation.weight=0.5",
)


def test_a_detector_that_learned_from_a_teacher_has_no_hooks_afterwards():
    """A network with hooks is not compiled for the engine."""
    recipe = load_recipe("digits-detection", SMALL)
    splits = load(recipe.data.name, **recipe.data.options)
    network = build_model(recipe.model)
    teacher = teaching(recipe, network)
    training_steps(network, recipe.gated, splits, recipe, limit=1, callbacks=[], teacher=teacher)
    assert not any(module._forward_hooks for module in network.modules())
