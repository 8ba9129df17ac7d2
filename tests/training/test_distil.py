import copy

import pytest
import torch
from torch import nn

from convgate.errors import InputError
from convgate.gated import gate
from convgate.methods import METHODS, DualGating
from convgate.models import create
from convgate.training.distil import Teacher


class Fixed(nn.Module):
    """Returns the same logits whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def test_the_term_by_hand():
    # Hinton, Vinyals, Dean (2015): T^2 * KL of the softened distributions. Here softmax([0, ln 3]) and softmax([0, 0]).
    teacher = Teacher(Fixed([0.0, 2 * 1.0986122886681098]), weight=0.5, temperature=2.0)
    logits = torch.zeros(3, 2, requires_grad=True)
    term = teacher.term(torch.zeros(3, 1, 1, 1), logits)
    kl = 0.25 * torch.tensor(0.25 / 0.5).log() + 0.75 * torch.tensor(0.75 / 0.5).log()
    assert term.item() == pytest.approx(0.5 * 4 * kl.item(), rel=1e-5)
    term.backward()
    # weight * T^2 * (softmax(student) - softmax(teacher)) / T, over the batch.
    torch.testing.assert_close(logits.grad, torch.tensor([[0.25, -0.25]] * 3) / 3)


def test_a_convex_sum_takes_from_the_cross_entropy_what_it_gives_the_teacher(make_module, images):
    parts, network = {}, create("cifar_resnet8")
    for name, convex in (("added", False), ("convex", True)):
        module = make_module(teacher=Teacher(network, weight=0.25, convex=convex, temperature=4.0))
        module.training_step((images.images, images.labels), 0)
        parts[name] = {key: float(value) for key, value in module.sums.items()}
    assert parts["convex"]["distillation"] == parts["added"]["distillation"]
    assert parts["convex"]["cross_entropy"] == pytest.approx(0.75 * parts["added"]["cross_entropy"])
    with pytest.raises(InputError, match="at most 1"):
        Teacher(create("cifar_resnet8"), weight=1.5, convex=True)


def test_a_student_that_agrees_is_left_alone():
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    teacher = Teacher(Fixed([1.0] * 7))
    teacher.network.forward = lambda x: logits
    assert teacher.term(torch.zeros(4, 1), logits.clone()).item() == pytest.approx(0, abs=1e-6)
    assert teacher.term(torch.zeros(4, 1), logits + 5).item() == pytest.approx(0, abs=1e-6)  # a shift is no difference
    assert teacher.term(torch.zeros(4, 1), -logits).item() > 0.1


@pytest.mark.parametrize("options", [{"weight": 0}, {"weight": -1}, {"temperature": 0}, {"temperature": float("nan")}])
def test_bad_options_are_refused(options):
    with pytest.raises(InputError, match="above 0"):
        Teacher(Fixed([0.0]), **options)


def test_a_teacher_of_other_classes_is_refused():
    with pytest.raises(InputError, match=r"\[2, 3\].*\[2, 5\]"):
        Teacher(Fixed([0.0] * 3)).term(torch.zeros(2, 1), torch.zeros(2, 5))


@pytest.mark.parametrize("name", METHODS)
def test_any_method_takes_a_teacher(name, make_module, images):
    """The loss is the other terms plus the teacher's; only the student learns; the teacher stays as it is."""
    torch.manual_seed(1)
    network = create("cifar_resnet8").train()
    before = copy.deepcopy(network.state_dict())
    teacher = Teacher(network, weight=3.0, temperature=4.0)
    taught = make_module(METHODS[name](), teacher=teacher)
    batch = images.images, images.labels
    loss = taught.training_step(batch, 0)
    taught.log_means()
    terms = {key: float(value) for key, value in taught.recorded.items()}
    assert terms["train_distillation"] > 0
    others = sum(v for k, v in terms.items() if k not in ("train_loss", "train_macs_ratio"))
    assert float(loss.detach()) == pytest.approx(others, rel=1e-5)
    loss.backward()
    assert all(p.grad is not None for p in taught.parameters())
    assert all(p.grad is None and not p.requires_grad for p in teacher.network.parameters())
    assert not any(m.training for m in teacher.network.modules())
    for state in (network.state_dict(), teacher.network.state_dict()):  # running statistics included
        assert all(torch.equal(state[key], value) for key, value in before.items())
    assert network.training


def test_the_teacher_is_in_no_checkpoint_and_stays_in_evaluation_mode(make_module):
    alone = make_module(DualGating())
    taught = make_module(DualGating(), teacher=Teacher(create("cifar_resnet8")))
    assert taught.state_dict().keys() == alone.state_dict().keys()
    assert sum(1 for _ in taught.parameters()) == sum(1 for _ in alone.parameters())
    taught.train()
    assert not taught.teacher.network.training


def test_a_teacher_may_be_gated_itself_and_the_student_dense(make_module, images):
    gated = gate(create("cifar_resnet8"), DualGating(), torch.zeros(2, 3, 32, 32))
    taught = make_module(None, teacher=Teacher(gated))
    batch = images.images, images.labels
    taught.training_step(batch, 0).backward()
    assert taught.sums["distillation"] > 0


def test_without_a_teacher_nothing_changes(make_module, images):
    torch.manual_seed(1)
    with_one = make_module(DualGating(), teacher=Teacher(create("cifar_resnet8"), weight=1e-30))
    batch = images.images, images.labels
    without = make_module(DualGating())
    assert float(with_one.training_step(batch, 3).detach()) == float(without.training_step(batch, 3).detach())
    assert "distillation" not in without.sums
