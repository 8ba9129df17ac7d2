"""A budget is approached and held whatever the size of the loss; a plain loop of one's own reaches it."""

import pytest
import torch

from convgate import DualGating, calibrate, gate
from convgate.errors import InputError
from convgate.finetuning import Budget, distillation, parameter_groups, train_gates
from convgate.models import create


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_plain_loop_reaches_its_budget(scale, randomise):
    """The loop of docs/make-my-network-faster.md."""
    torch.manual_seed(0)
    images = torch.randn(8, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=8), images)
    net = gate(model, DualGating(masks="equal"), images[:1])
    train_gates(net)
    budget, steps = Budget(0.8), 100
    optimiser = torch.optim.AdamW(parameter_groups(net, lr=1e-4, gate_lr=0.08))
    for step in range(steps):
        with torch.no_grad():
            answers = model(images)
        logits, decisions = net.decide(images)
        loss = scale * distillation(logits, answers)
        (loss + budget.term(net, decisions, loss, progress=step / steps)).backward()
        optimiser.step()
        optimiser.zero_grad()
    assert budget.target == 0.8
    assert budget.spent == pytest.approx(0.8, abs=0.08)
    assert calibrate(net, [images], 0.8).reached == pytest.approx(0.8, rel=5e-3)


def test_the_target_comes_down_from_one():
    budget = Budget(0.6, ramp=0.5)
    targets = [budget.target_at(p / 10) for p in range(11)]
    assert targets[0] == 1.0
    assert targets[5:] == [0.6] * 6
    assert targets == sorted(targets, reverse=True)


@pytest.mark.parametrize("options", [{"share": 0}, {"share": 1.2}, {"share": 0.5, "ramp": 1.0}], ids=str)
def test_bad_budgets(options):
    with pytest.raises(InputError, match="Budget"):
        Budget(**options)


def test_a_loss_that_is_no_number_is_said(make_small):
    net, x = make_small()
    with pytest.raises(InputError, match="loss is nan"):
        Budget(0.5).term(net, net.decide(x)[1], torch.tensor(float("nan")), 0.0)


def test_distillation_is_hintons():
    student, teacher = torch.randn(4, 5), torch.randn(4, 5)
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    expected = 4 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(distillation(student, teacher, temperature=2.0), expected)
    with pytest.raises(InputError, match="same classes"):
        distillation(student, teacher[:, :3])


def test_train_gates_holds_the_networks_norms_and_trains_the_gates(make_small):
    net, _ = make_small()
    train_gates(net)
    assert all(p.requires_grad for p in net.parameters())
    train_gates(net, rest=False)
    assert not net.bn1.training
    assert all(gate.training for _, gate in net.gate_modules())
    assert all(p.requires_grad for p in net.gate_parameters())
    assert not net.conv1.weight.requires_grad


def test_what_is_frozen_stays_frozen_when_gates_are_trained(make_small):
    net, _ = make_small()
    net.requires_grad_(False)
    net.conv1.requires_grad_(True)
    train_gates(net)
    learning = {id(p) for p in (*net.gate_parameters(), *net.conv1.parameters())}
    assert {id(p) for p in net.parameters() if p.requires_grad} == learning


def test_images_of_another_size_than_the_examples():
    net = gate(create("cifar_resnet8", width=4), DualGating(masks="equal"), torch.zeros(1, 3, 16, 16)).train()
    y, decisions = net.decide(torch.randn(2, 3, 24, 24))
    assert Budget(0.6).term(net, decisions, y.square().mean(), 0.5) > 0


def test_a_gates_weights_learn_slower_the_more_inputs_they_have():
    net = gate(create("cifar_resnet8", width=4), DualGating(), torch.zeros(1, 3, 16, 16))
    groups = parameter_groups(net, lr=1e-4, gate_lr=1e-2)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rates) == len(list(net.parameters()))
    for _, module in net.gate_modules():
        for parameter in module.head.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 0.5
            assert rates[id(parameter)] == pytest.approx(1e-2 * min(0.5 / fan_in, 1))


def test_distillation_of_maps_is_that_of_their_positions():
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    positions = [x.permute(0, 2, 3, 1).reshape(-1, 3) for x in (student, teacher)]
    torch.testing.assert_close(distillation(student, teacher), distillation(*positions))
    with pytest.raises(InputError, match="H, W"):
        distillation(student[0], teacher[0])
