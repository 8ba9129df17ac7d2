import pytest
import torch

from convgate.gated import gate
from convgate.methods import DualGating
from convgate.models import create
from convgate.recipes.stages import Stage
from convgate.training.optimise import learning_rate_factor, make_optimiser


def test_gates_are_not_decayed_and_every_parameter_is_optimised_once():
    # DGNet's code: weight decay 0 for every parameter of a gate.
    network = gate(create("cifar_resnet8"), DualGating(), torch.zeros(1, 3, 32, 32))
    optimiser = make_optimiser(network, Stage(epochs=1, weight_decay=1e-3))
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        assert decay[id(parameter)] == (0.0 if name.startswith("gates.gates.") else 1e-3), name


def test_gates_learn_at_a_rate_of_their_own_all_along_the_schedule():
    network = gate(create("cifar_resnet8"), DualGating(), torch.zeros(1, 3, 32, 32))
    stage = Stage(epochs=1, lr=0.2, gate_lr=0.5)
    optimiser = make_optimiser(network, stage)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate_factor(stage, step / 2))
    others, gates = optimiser.param_groups
    assert {id(p) for p in gates["params"]} == {id(p) for p in network.gate_parameters()}
    assert (others["lr"], gates["lr"]) == pytest.approx((0.2, 0.1))
    optimiser.step()
    schedule.step()
    assert (others["lr"], gates["lr"]) == pytest.approx((0.1, 0.05))


def test_gates_are_decayed_if_the_stage_says_so():
    network = gate(create("cifar_resnet8"), DualGating(), torch.zeros(1, 3, 32, 32))
    assert [g["weight_decay"] for g in make_optimiser(network, Stage(gate_decay=2e-4)).param_groups] == [5e-4, 2e-4]


def test_rmsprop_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    stage = Stage(optimiser="rmsprop", lr=0.5, square_decay=0.75, epsilon=1.0, momentum=0.0, weight_decay=0.0)
    optimiser = make_optimiser(model, stage)
    model(torch.full((1, 1), 4.0)).backward()
    optimiser.step()
    # The mean of squares is 0.25 * 4^2, its root 2: 1 - 0.5 * 4 / (2 + 1).
    assert model.weight.item() == pytest.approx(1 / 3)


def test_an_ungated_network_has_one_group():
    assert len(make_optimiser(create("cifar_resnet8"), Stage(epochs=1)).param_groups) == 1


def test_vectors_are_spared_if_the_stage_says_so():
    model = create("cifar_resnet8")
    optimiser = make_optimiser(model, Stage(epochs=1, decay_vectors=False, nesterov=False))
    decayed, spared = optimiser.param_groups
    assert {p.dim() for p in decayed["params"]} == {2, 4}
    assert {p.dim() for p in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"], decayed["nesterov"]) == (5e-4, 0.0, False)


@pytest.mark.parametrize(
    ("stage", "progress", "factor"),
    [
        (Stage(), 0.0, 1.0),
        (Stage(), 0.5, 0.5),
        (Stage(), 1.0, 0.0),
        (Stage(warmup=0.2), 0.1, 0.5),
        (Stage(warmup=0.2), 0.2, 1.0),
        (Stage(warmup=0.2), 0.6, 0.5),
        (Stage(schedule="steps"), 0.49, 1.0),
        (Stage(schedule="steps"), 0.5, 0.1),
        (Stage(schedule="steps", gamma=0.2), 0.75, 0.04),
        (Stage(schedule="steps", warmup=0.1), 0.05, 0.5),
        (Stage(schedule="exponential", gamma=0.04), 0.0, 1.0),
        (Stage(schedule="exponential", gamma=0.04), 0.5, 0.2),
        (Stage(schedule="exponential", gamma=0.04), 1.0, 0.04),
        (Stage(schedule="polynomial", power=2.0), 0.5, 0.25),
        (Stage(schedule="polynomial"), 1.0, 0.0),
    ],
)
def test_learning_rate_schedule(stage, progress, factor):
    assert learning_rate_factor(stage, progress) == pytest.approx(factor, abs=1e-12)
