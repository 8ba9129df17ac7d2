"""A run: what its folder holds, as one object."""

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from convgate import checkpoint
from convgate.analysis import Metrics
from convgate.data import Splits
from convgate.data import load as load_data
from convgate.errors import CheckpointError, RecipeError
from convgate.gated import GatedNetwork
from convgate.recipes.recipe import Recipe
from convgate.recipes.stages import DenseStage, Stage
from convgate.runs.folder import RunFolder
from convgate.runs.origin import Origin
from convgate.training.parts import build_model, build_static
from convgate.weights import load_weights

__all__ = ["Run"]


@dataclass(frozen=True, eq=False)
class Run:
    """What a run was, finished or not, read from its folder.

    Attributes:
        folder: where its files are.
        recipe: all that it depends on.
        origin: what was asked for, by which version; None if that was not noted.
        metrics: its figures; None as long as it is not finished.
        data: where the images are, if not where the recipe says.

    """

    folder: RunFolder
    recipe: Recipe
    origin: Origin | None
    metrics: Metrics | None
    data: str | Path | None = None

    @staticmethod
    def load(folder: str | Path, data: str | Path | None = None) -> "Run":
        """The run in a folder.

        Args:
            folder: the folder that `convgate train` wrote.
            data: where the images are, if not where the recipe says.

        Raises:
            RecipeError: the folder does not hold a run.
            CheckpointError: its metrics, or what was noted of its origin, are damaged.

        """
        home = RunFolder(folder)
        if not home.recipe.is_file():
            raise RecipeError(f"{home.path} is not the folder of a run: it has no recipe.yaml")
        overrides = [f"--data.options.root={data}"] if data is not None else []
        return Run(home, home.read_recipe(overrides), home.read_origin(), home.read_metrics(), data)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.path.resolve().name

    @property
    def finished(self) -> Metrics:
        """The metrics. Raises `RecipeError` for a run that has none."""
        if self.metrics is None:
            raise RecipeError(
                f"{self.folder.path} holds no finished run (no metrics.json); let `convgate train` finish it"
            )
        return self.metrics

    def epochs(self, stage: Stage) -> list[dict[str, float]]:
        """What was logged in each epoch of a stage; empty if it was not trained here.

        Raises `CheckpointError` for a table that is damaged.
        """
        path = self.folder.epochs(stage)
        if not path.is_file():
            return []
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        except (ValueError, TypeError, csv.Error) as error:
            raise CheckpointError(f"{path} is damaged ({error!r}); delete it, and train the stage again") from error

    def network(self) -> GatedNetwork:
        """The gated network, calibrated, on the CPU.

        Raises `CheckpointError` if the run did not come so far, `RecipeError` for one whose network does not decide by
        image (see `trained`).
        """
        if self.recipe.method.is_static:
            raise RecipeError(f"{self.folder.path} is a run without gates that decide; there is no gated network")
        self._require_network()
        return checkpoint.load(self.folder.network, self._model())

    def trained(self) -> nn.Module:
        """What the run trained, in evaluation mode: a `GatedNetwork`, a `FixedNetwork`, or a network without gates."""
        if not self.recipe.method.is_static:
            return self.network()
        self._require_network()
        with torch.random.fork_rng(devices=[]):
            network = build_static(self.recipe, self._model(), self.splits())
        load_weights(network, self.folder.network, {})
        return network.eval()

    def _require_network(self) -> None:
        if not self.folder.network.is_file():
            raise CheckpointError(f"{self.folder.network} is not there; let `convgate train` finish the run")

    def dense_network(self) -> nn.Module | None:
        """The network before gating, in evaluation mode; None where its weights are not there."""
        path = self.folder.after(DenseStage)
        if not path.is_file():
            return None
        model = self._model()
        load_weights(model, path, {})
        return model.eval()

    def _model(self) -> nn.Module:
        """The model with weights that are about to be replaced, so the caller's random state stays."""
        with torch.random.fork_rng(devices=[]):
            return build_model(self.recipe.model, weights=False)

    def splits(self) -> Splits:
        """The images. Raises `DataError` where they are not at the place that the recipe names."""
        return load_data(self.recipe.data.name, **self.recipe.data.options)
