"""A run whose budget is a time: trained to the share that takes about as long, calibrated to the time."""

import pytest
from tests.made_up_times import made_up_model, watching

from convgate.calibration import timed
from convgate.errors import BudgetError
from convgate.latency import load
from convgate.recipes.read import load_recipe
from convgate.runs import training
from convgate.runs.launch import train


@pytest.fixture
def made_up(monkeypatch):
    """The models that runs have fitted."""
    models = []

    def fit(engine):
        models.append(made_up_model(engine))
        monkeypatch.setattr(timed, "watch", watching(models[0], 1.1))
        return models[-1]

    monkeypatch.setattr(training, "fit_latency", fit)
    return models


def test_a_run_to_milliseconds(tiny_run, tmp_path, made_up):
    overrides = [*tiny_run, "--method.options.init=paper", "--gated.epochs=1", "--hardware.threads=1"]
    recipe = load_recipe("digits-demo", [*overrides, "--budget=4ms"])
    done = train(recipe, tmp_path / "run", progress=False)
    assert (done.recipe.budget, done.recipe.milliseconds) == (None, 4.0)
    assert 0 < done.finished.budget < 1
    assert load(done.folder.latency) == made_up[0]
    done.folder.metrics.unlink()
    assert train(recipe, tmp_path / "run", progress=False).metrics.gated == done.metrics.gated
    assert len(made_up) == 1


def test_a_time_out_of_reach_is_told_before_training(tiny_run, tmp_path, made_up):
    overrides = [*tiny_run, "--gated.epochs=1", "--hardware.threads=1", "--budget=0.001ms"]
    with pytest.raises(BudgetError, match="every gate closed"):
        train(load_recipe("digits-demo", overrides), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
