import lightning as L
import pytest
import torch

from convgate.data import Augmentation
from convgate.gated import gate
from convgate.methods import DualGating, GlobalGater
from convgate.models import create
from convgate.quantization import FakeQuantization
from convgate.recipes.recipe import Hardware
from convgate.recipes.stages import Stage
from convgate.tasks.classification import Classification
from convgate.training.fit import lightning_precision
from convgate.training.module import TrainingModule


def test_the_loss_is_the_cross_entropy_plus_the_methods_terms(images, make_module):
    module = make_module(DualGating())
    loss = module.training_step((images.images, images.labels), 0)
    module.log_means()
    terms = {name: float(value) for name, value in module.recorded.items()}
    assert float(loss.detach()) == pytest.approx(
        terms["train_cross_entropy"] + terms["train_budget"] + terms["train_bounds"]
    )
    assert terms["train_budget"] > 0
    assert 0 < terms["train_macs_ratio"] <= 1.01
    loss.backward()
    assert all(p.grad is not None for p in module.parameters())


def test_a_step_depends_on_seed_and_step_alone(images, make_module):
    batch = images.images, images.labels
    losses = {}
    for name, seed, index in (("a", 0, 3), ("same", 0, 3), ("step", 0, 4), ("seed", 1, 3)):
        module = make_module(DualGating(), seed=seed)
        torch.rand(17)  # whatever was drawn before
        losses[name] = float(module.training_step(batch, index).detach())
    assert losses["a"] == losses["same"]
    assert len({losses["a"], losses["step"], losses["seed"]}) == 3


def test_held_gates_decide_as_in_evaluation_and_learn_nothing(images):
    torch.manual_seed(0)
    network = gate(create("cifar_resnet8"), DualGating(masks="equal"), torch.zeros(2, 3, 32, 32)).train()
    module = TrainingModule(
        network, Stage(epochs=1), images, Classification(Augmentation(pad=0, flip=False)), hold_gates=True
    )
    module.on_train_epoch_start()
    x = module._prepare(images.images)
    _, trained = network.decide(x)
    _, again = network.decide(x)
    assert all(torch.equal(trained[name].mask, again[name].mask) for name in trained)  # no noise
    assert all(torch.equal(d.mask, (d.logits >= 0).float()) for d in trained.values())
    loss, noted = module.loss(x, images.labels, 0.0)
    loss.backward()
    assert {"macs_ratio", "cross_entropy", "loss"} == set(noted)
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("gates."), name


def test_the_methods_schedule_is_kept(images, monkeypatch, make_module):
    """GaterNet's dropout rises in proportion to the share of training done."""
    module = make_module(GlobalGater(dropout=0.2))
    batch = images.images, images.labels
    for epoch, step, expected in ((0, 0, 0.0), (1, 0, 0.05), (3, 0, 0.15), (3, 6, 0.1875)):
        monkeypatch.setattr(TrainingModule, "current_epoch", epoch)
        monkeypatch.setattr(module.trainer.fit_loop, "max_batches", 8)
        module.training_step(batch, step)
        assert module.network.convgate.trunk.dropout.item() == pytest.approx(expected)
    module.training_step((images.images, images.labels), 0)
    module.log_means()
    # Soft masks count as fractions; were they rounded down, this would be hardly more than all gates closed.
    assert float(module.recorded["train_macs_ratio"]) > module.network.cost(module.network.closed_decisions(1)).ratio


def test_the_penalty_is_told_how_much_of_the_training_is_done(images, monkeypatch, make_module):
    module = make_module(DualGating())
    told = []
    said = DualGating.terms
    monkeypatch.setattr(DualGating, "terms", lambda *given: told.append(given[-1]) or said(*given))
    monkeypatch.setattr(TrainingModule, "current_epoch", 3)
    monkeypatch.setattr(L.Trainer, "num_training_batches", 8)
    for index in (0, 2):
        module.training_step((images.images, images.labels), index)
    assert told == [3 / 4, 3.25 / 4]


def test_validation_is_accounted_for_without_augmentation(images, make_module):
    module = make_module(DualGating()).eval()
    module.validation_step((images.images, images.labels), 0)
    module.on_validation_epoch_end()
    first = dict(module.recorded)
    module.validation_step((images.images, images.labels), 1)
    module.on_validation_epoch_end()
    assert first == module.recorded
    assert {"validation_accuracy", "validation_loss", "validation_macs_ratio"} == set(first)


def test_steps_and_validation_round_and_leave_nothing_behind(images, make_module, monkeypatch):
    batch, losses = (images.images, images.labels), []
    for rounds in (False, True):
        module = make_module(DualGating())
        if rounds:
            module.fake = FakeQuantization(module.network, levels=7)
        losses.append(float(module.training_step(batch, 0).detach()))
        module.eval()
        module.validation_step(batch, 0)
        module.on_validation_epoch_end()
        losses.append(module.recorded["validation_loss"])
        module.train()
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in module.network.modules())
    assert losses[0] != pytest.approx(losses[2])
    assert losses[1] != pytest.approx(losses[3])
    assert module.fake.limits.gt(0).all()
    assert {"fake.limits", "network.conv1.weight"} <= module.state_dict().keys()
    monkeypatch.setattr(module.network.layer3[0].conv2, "_conv_forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        module.training_step(batch, 0)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in module.network.modules())


@pytest.mark.parametrize(("asked", "given"), [("float32", "32-true"), ("bfloat16", "bf16-mixed")])
def test_precision_by_name(asked, given):
    assert lightning_precision(Hardware(precision=asked)) == given


def test_automatic_precision_follows_the_processor(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for capable, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capable=capable: {"avx512_bf16": capable})
        assert lightning_precision(Hardware()) == expected
