"""Steps that are recorded and replayed; without a GPU a stand-in for the recording computes anew in each replay."""

import lightning as L
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from convgate.data import Batches, ImageSet
from convgate.errors import RecipeError
from convgate.gated import gate
from convgate.methods import DualGating, create, list_methods
from convgate.models import create as create_model
from convgate.recipes.recipe import Hardware, Recipe
from convgate.recipes.stages import Stage
from convgate.tasks.classification import Classification
from convgate.training.distil import Teacher
from convgate.training.fit import _module
from convgate.training.graphed import GraphedModule
from convgate.training.module import TrainingModule


class _Again:
    """Stands in for a recording: a replay computes again."""

    made = 0

    def __init__(self, compute, stream):
        assert stream is None
        type(self).made += 1
        self.compute = compute
        self.results = None

    def replay(self):
        self.results = self.compute()


@pytest.fixture
def many():
    pixels = torch.randint(0, 256, (48, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(48) % 10, tuple("0123456789"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def _train(kind, images, method, *, epochs=2, accelerator="cpu"):
    torch.manual_seed(0)
    network = gate(create_model("cifar_resnet8", width=4), method, torch.zeros(2, 3, 32, 32)).train()
    module = kind(network, Stage(epochs=epochs, batch_size=8), images, Classification(), method=method)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Batches(images, 8, shuffle=True, drop_last=True))
    return module, trainer


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec")
@pytest.mark.filterwarnings("ignore:.*val_dataloader")
def test_replays_train_as_single_operations_do(many, monkeypatch):
    """Of a method that schedules nothing by progress the weights are the same."""
    monkeypatch.setattr(GraphedModule, "recorder", _Again)
    method = DualGating(annealing=0.0)
    expected, one = _train(TrainingModule, many, method)
    _Again.made = 0
    found, other = _train(GraphedModule, many, method)
    assert one.global_step == other.global_step == 12
    assert _Again.made == 9  # three steps come first; after them each is a share of the 64 of its own
    for (name, a), b in zip(expected.state_dict().items(), found.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert expected.sums.keys() == found.sums.keys()
    assert float(expected.sums["loss"]) == pytest.approx(float(found.sums["loss"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec")
@pytest.mark.filterwarnings("ignore:.*val_dataloader")
def test_recorded_steps_train_as_single_operations_do(many):
    method = DualGating(annealing=0.0)
    expected, _ = _train(TrainingModule, many, method, accelerator="gpu")
    found, _ = _train(GraphedModule, many, method, accelerator="gpu")
    assert found.recording is not None
    assert float(expected.sums["loss"]) == pytest.approx(float(found.sums["loss"]), rel=0.02)
    for (name, a), b in zip(expected.state_dict().items(), found.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=0.05, atol=0.02), name  # sums have orders of their own


def test_a_recording_serves_its_share_of_the_stage(images, make_module, monkeypatch):
    monkeypatch.setattr(GraphedModule, "recorder", _Again)
    monkeypatch.setattr(L.Trainer, "num_training_batches", 64)
    module = make_module(DualGating(), kind=GraphedModule)
    _Again.made = 0
    for step in range(3 + 32):
        module.training_step((images.images, images.labels), step)
    assert _Again.made == 9  # of 256 steps each 64th, from the third on


def test_batches_of_other_shapes_are_refused(images, make_module, monkeypatch):
    monkeypatch.setattr(GraphedModule, "recorder", _Again)
    module = make_module(DualGating(), kind=GraphedModule)
    for step in range(4):
        module.training_step((images.images, images.labels), step)
    with pytest.raises(RecipeError, match=r"one shape, and after \[8, 3, 32, 32\] came \[4, 3, 32, 32\]"):
        module.training_step((images.images[:4], images.labels[:4]), 4)
    with pytest.raises(RecipeError, match="sizes of their own"):
        module.training_step(([*images.images], [*images.labels]), 4)


def test_graphs_need_a_gpu_and_one_process(images):
    recipe = Recipe(hardware=Hardware(graphs=True, accelerator="cpu"))
    with pytest.raises(RecipeError, match="NVIDIA GPU"):
        _module(create_model("cifar_resnet8"), Stage(epochs=1), None, recipe, None, None)
    with pytest.raises(RecipeError, match="several processes"):
        Hardware(graphs=True, devices=2)


@pytest.mark.parametrize("name", sorted(list_methods()))
@pytest.mark.parametrize("held", [False, True])
def test_a_step_of_each_method_can_be_recorded(name, held, images):
    """On tensors without data, an answer that has to be waited for is an error, as it is in a recording."""
    method = create(name, {})
    network = gate(create_model("cifar_resnet8", width=4), method, torch.zeros(2, 3, 32, 32)).train()
    teacher = Teacher(create_model("cifar_resnet8", width=4))
    module = TrainingModule(
        network,
        Stage(epochs=1),
        images,
        Classification(),
        method=None if held else method,
        teacher=teacher,
        hold_gates=held,
    )
    for part in module.held:
        part.eval()
    x = torch.randn(8, 3, 32, 32)
    module.loss(x, images.labels, 0.1)[0].backward()  # tables that are kept are made
    with FakeTensorMode(allow_non_fake_inputs=True):
        loss, _ = module.loss(x, images.labels, 0.1)
        loss.backward()
