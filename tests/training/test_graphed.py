"""Steps that are recorded and replayed; without a GPU a stand-in for the recording computes anew in each replay."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convgate.data import Batches, ImageSet
from convgate.errors import RecipeError
from convgate.gated import gate
from convgate.gating import logistic_straight_through
from convgate.methods import DualGating, create, list_methods
from convgate.models import create as create_model
from convgate.recipes.recipe import Hardware, Recipe
from convgate.recipes.stages import Stage
from convgate.tasks.classification import Classification
from convgate.training import fit, graphed
from convgate.training.distil import Teacher
from convgate.training.fit import _module
from convgate.training.graphed import GraphedModule
from convgate.training.module import TrainingModule


class _Again:
    """Stands in for a recording: a replay computes again, and writes gradients where the first one did.

    So gradients that somebody has dropped meanwhile are not seen by the optimiser.
    """

    made = replays = 0

    def __init__(self, compute, stream):
        assert stream is None
        type(self).made += 1
        self.compute = compute
        self.results = self.gradients = None

    def replay(self):
        type(self).replays += 1
        module = self.compute.__closure__[self.compute.__code__.co_freevars.index("self")].cell_contents
        parameters = module.parameters()
        held = [(parameter, parameter.grad) for parameter in parameters]
        self.results = self.compute()
        written = [parameter.grad for parameter, _ in held]
        if self.gradients is None:
            self.gradients = written
            return
        for (parameter, before), place, gradient in zip(held, self.gradients, written, strict=True):
            if place is not None:
                place.copy_(gradient)
            parameter.grad = before


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(GraphedModule, "recorder", _Again)
    monkeypatch.setattr(_Again, "made", 0)
    monkeypatch.setattr(_Again, "replays", 0)


@pytest.fixture
def many():
    pixels = torch.randint(0, 256, (48, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(48) % 10, tuple("0123456789"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def _network(method):
    torch.manual_seed(0)
    return gate(create_model("cifar_resnet8", width=8), method, torch.zeros(2, 3, 32, 32)).train()


def _train(kind, images, method, *, epochs=2, **how):
    network = _network(method)
    teacher = Teacher(create_model("cifar_resnet8", width=8))
    module = kind(network, Stage(epochs=epochs, batch_size=8), images, Classification(), method=method, teacher=teacher)
    trainer = L.Trainer(
        max_epochs=epochs,
        **how,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Batches(images, 8, shuffle=True, drop_last=True), Batches(images, 8))
    return module


precisions = pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])


def same_training(many, precision, accelerator):
    """The weights of a method with which nothing depends on progress, which is rounded otherwise, in pairs."""
    method = DualGating(annealing=0.0)
    how = {"precision": precision, "accelerator": accelerator}
    expected, found = (_train(kind, many, method, **how) for kind in (TrainingModule, GraphedModule))
    for (name, a), b in zip(expected.state_dict().items(), found.state_dict().values(), strict=True):
        yield name, a, b
    assert expected.sums.keys() == found.sums.keys()
    assert float(expected.sums["loss"]) == pytest.approx(float(found.sums["loss"]), rel=1e-5)


@precisions
@pytest.mark.usefixtures("stand_in")
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_replays_train_as_single_operations_do(many, precision):
    for name, a, b in same_training(many, precision, "cpu"):
        assert torch.equal(a, b), name
    assert _Again.made == 1
    assert _Again.replays == 9  # of 12 steps; three come first


@pytest.fixture
def traced_only(monkeypatch):
    """Compiling without a compiler behind it: the whole step is traced, forward and backward, and run as it is."""
    compiler = partial(torch.compile, dynamic=False, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(GraphedModule, "compiler", staticmethod(compiler))
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@precisions
@pytest.mark.usefixtures("stand_in", "traced_only")
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_compiled_steps_train_as_single_operations_do(many, precision):
    """Whole steps are compiled, once for all progress, and their backward pass is not under autocast."""
    how = {"precision": precision, "accelerator": "cpu"}
    kinds = (TrainingModule, partial(GraphedModule, compiled=True))
    expected, found = (_train(kind, many, DualGating(budget_annealing=0.5), **how).state_dict() for kind in kinds)
    for (name, a), b in zip(expected.items(), found.values(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=1e-5, atol=1e-6), name
    assert counters["stats"]["unique_graphs"] == 1


@precisions
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_compiled_steps_are_recorded(many, precision, monkeypatch):
    monkeypatch.setattr(graphed, "_LEAST_STEPS", 4)
    how = {"precision": precision, "accelerator": "gpu"}
    kinds = (TrainingModule, partial(GraphedModule, compiled=True))
    expected, found = (_train(kind, many, DualGating(), **how) for kind in kinds)
    assert float(expected.sums["loss"]) == pytest.approx(float(found.sums["loss"]), rel=2e-2)
    began = [p.detach().clone() for p in _network(DualGating()).parameters()]
    moves = [
        torch.cat([(p.detach().cpu() - a).flatten() for p, a in zip(m.network.parameters(), began, strict=True)])
        for m in (expected, found)
    ]
    assert torch.nn.functional.cosine_similarity(*moves, dim=0) > 0.7


@precisions
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_recorded_steps_train_as_single_operations_do(many, precision, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(graphed, "_LEAST_STEPS", 4)  # recordings: 3
    for name, a, b in same_training(many, precision, "gpu"):
        assert torch.allclose(a.float(), b.float(), rtol=1e-3, atol=1e-4), name


@pytest.mark.usefixtures("stand_in")
def test_a_recording_serves_its_part_of_the_stage(images, make_module, monkeypatch):
    monkeypatch.setattr(L.Trainer, "num_training_batches", 64)
    module = make_module(DualGating(), kind=GraphedModule)
    scheduled, told = [], []
    says = DualGating.terms
    monkeypatch.setattr(DualGating, "schedule", lambda *given: scheduled.append(given[-1]))
    monkeypatch.setattr(DualGating, "terms", lambda *given: told.append(float(given[-1])) or says(*given))
    for step in range(64):
        module.training_step((images.images, images.labels), step)
    assert _Again.made == 2  # 4 epochs of 64 steps are 8 times 32
    assert sorted(set(scheduled)) == [0.5 / 8, 1.5 / 8]
    assert told == [step / 256 for step in range(64)]


@pytest.mark.usefixtures("stand_in", "traced_only")
def test_each_part_begins_with_a_step_in_which_it_is_compiled(images, make_module, monkeypatch):
    monkeypatch.setattr(L.Trainer, "num_training_batches", 64)
    module = make_module(DualGating(noise=0.5 / 4), kind=partial(GraphedModule, compiled=True))
    compiled = []
    for step in range(64):
        before = _Again.replays
        module.training_step((images.images, images.labels), step)
        compiled.append((counters["stats"]["unique_graphs"], _Again.replays - before))
    # The noise ends in the step 32, as the second part begins; replays compile nothing.
    assert compiled == [(0, 0), (1, 0), (1, 0), *[(1, 1)] * 29, (2, 0), *[(2, 1)] * 31]


@pytest.mark.usefixtures("stand_in", "traced_only")
def test_a_falling_temperature_is_not_compiled_anew(images, make_module, monkeypatch):
    """Of many parts each has another one; numbers, which it might be, are compiled as often as there are parts."""
    monkeypatch.setattr(L.Trainer, "num_training_batches", 32)
    monkeypatch.setattr(graphed, "_LEAST_STEPS", 8)
    falling = DualGating(temperature=2.0, final_temperature=0.3)
    for method, graphs in ((falling, 1), (_Numbered(), 4)):
        counters.clear()
        module = make_module(method, kind=partial(GraphedModule, compiled=True))
        for step in range(32):
            module.training_step((images.images, images.labels), step)
        assert counters["stats"]["unique_graphs"] == graphs


class _Numbered(DualGating):
    """Schedules a number."""

    def schedule(self, gates, progress):
        for _, one in gates.named_gates():
            one.estimator = partial(logistic_straight_through, temperature=1 - progress / 2)


@pytest.mark.usefixtures("stand_in")
def test_validation_leaves_the_gradients_that_replays_write(images, make_module):
    module = make_module(DualGating(), kind=GraphedModule)
    for step in range(4):
        module.training_step((images.images, images.labels), step)
    module.on_validation_model_zero_grad()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.usefixtures("stand_in")
def test_batches_of_other_shapes_are_refused(images, make_module):
    module = make_module(DualGating(), kind=GraphedModule)
    for step in range(4):
        module.training_step((images.images, images.labels), step)
    with pytest.raises(RecipeError, match=r"one shape, and after \[8, 3, 32, 32\] came \[4, 3, 32, 32\]"):
        module.training_step((images.images[:4], images.labels[:4]), 4)


def test_what_graphs_do_not_go_with(images, monkeypatch):
    recipe = Recipe(hardware=Hardware(graphs=True))
    network = create_model("cifar_resnet8").eval()
    with pytest.raises(RecipeError, match="NVIDIA GPU"):
        _module(network, Stage(epochs=1), SimpleNamespace(train=images), on_cpu(recipe), None, None)
    monkeypatch.setattr(fit, "device_of", lambda hardware: torch.device("cuda"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(RecipeError, match="boxes"):
        _module(network, Stage(epochs=1), SimpleNamespace(train=None), recipe, None, None)
    assert not network.training
    with pytest.raises(RecipeError, match="several processes"):
        Hardware(graphs=True, devices=2)


def on_cpu(recipe):
    return replace(recipe, hardware=replace(recipe.hardware, accelerator="cpu"))


@pytest.mark.parametrize("name", sorted(list_methods()))
@pytest.mark.parametrize("held", [False, True])
class TestAStepOfEachMethod:
    """On tensors without data, an answer that has to be waited for is an error, as it is in a recording."""

    @pytest.fixture
    def module(self, name, held, images):
        method = create(name, {})
        network = gate(create_model("cifar_resnet8", width=8), method, torch.zeros(2, 3, 32, 32)).train()
        module = TrainingModule(
            network,
            Stage(epochs=1),
            images,
            Classification(),
            method=None if held else method,
            teacher=Teacher(create_model("cifar_resnet8", width=8)),
            hold_gates=held,
        )
        for part in module.held:
            part.eval()
        return module

    @pytest.mark.parametrize("progress", [0.1, 0.95])
    def test_waits_for_nothing(self, module, images, progress):
        x = torch.randn(8, 3, 32, 32)
        module.loss(x, images.labels, progress)[0].backward()  # tables that are kept are made
        with FakeTensorMode(allow_non_fake_inputs=True):
            module.schedule(progress)
            module.scheduled_loss(x, images.labels, torch.tensor(progress))[0].backward()

    def test_copies_nothing_to_the_device(self, module):
        module.teacher = None  # one that is moved is one with data
        with FakeTensorMode(allow_non_fake_inputs=True):
            _pretend_to_be_on_a_gpu(module.network)
            x, labels = torch.randn(8, 3, 32, 32, device="cuda"), torch.zeros(8, dtype=torch.long, device="cuda")
            module.loss(x, labels, 0.1)  # tables that are kept are made
            progress = torch.tensor(0.1, device="cuda")
            with _Copies() as copies:
                module.scheduled_loss(x, labels, progress)
        assert copies.found == []


def _pretend_to_be_on_a_gpu(network):
    for part in network.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = torch.nn.Parameter(torch.empty_like(value, device="cuda"))
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = torch.empty_like(value, device="cuda")


class _Copies(TorchDispatchMode):
    """Notes operations between devices; single numbers are arguments of kernels."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, result)) if isinstance(leaf, torch.Tensor) and leaf.dim()]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.found.append(str(function))
        return result
