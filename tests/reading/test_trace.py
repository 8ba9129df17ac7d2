"""Reading models: what cannot be read, what differs between the modes, and models of one's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convgate import DualGating, gate, plan
from convgate.errors import ConvgateError, InputError, PlanError, TraceError
from convgate.reading import branches, features, trace

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(torch.relu(self.conv1(x)))


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.block, self.fc = nn.Conv2d(3, 6, 3, padding=1), Block(), nn.Linear(6, 5)

    def head(self, x):
        return self.fc(x.mean((2, 3)))

    def forward(self, x):
        return self.head(self.block(self.stem(x)))


class DataDependent(Base):
    def forward(self, x):
        x = self.stem(x)
        if x.sum() > 0:
            x = -x
        return self.head(self.block(x))


class TwoInputs(Base):
    def forward(self, x, scale):
        return super().forward(x * scale)


class OptionalInput(Base):
    def forward(self, x, scale=2.0):
        return super().forward(x * scale)


class Dropout(Base):
    def forward(self, x):
        return self.fc(F.dropout(self.block(self.stem(x)).mean((2, 3)), 0.5, training=self.training))


class DropoutInBranch(Base):
    def forward(self, x):
        x = self.stem(x)
        y = F.dropout(torch.relu(self.block.conv1(x)), 0.5, training=self.training)
        return self.head(x + self.block.conv2(y))


class Auxiliary(Base):
    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(6, 5)

    def forward(self, x):
        x = self.stem(x)
        aux = self.aux(x.mean((2, 3))) if self.training else None
        y = self.head(self.block(x))
        return (y, aux) if self.training else y


class ExtraLayersInTraining(Base):
    def __init__(self):
        super().__init__()
        self.extra = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        x = self.stem(x)
        if self.training:
            x = self.extra(x)
        return self.head(self.block(x))


class BranchInEvaluationOnly(Base):
    def forward(self, x):
        x = self.stem(x)
        return self.head(x if self.training else self.block(x))


class Shared(Base):
    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.block.conv2(torch.relu(self.block.conv1(torch.relu(self.block.conv1(x))))))


class RootParameter(Base):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0]))
        self.register_buffer("shift", torch.tensor([0.5]))
        self.register_buffer("hidden", torch.tensor([0.25]), persistent=False)
        self.constant = torch.tensor([1.5])

    def forward(self, x):
        return super().forward(x * self.scale + self.shift + self.hidden) * self.constant


class TupleOutput(Base):
    def forward(self, x):
        y = super().forward(x)
        return {"logits": y, "both": (y, [y * 2])}


def gated(model):
    return gate(model.eval(), DualGating(tile=2), X)


@torch.no_grad()
def assert_open_is_original(model, net, training=False):
    model.train(training)
    net.train(training)
    torch.manual_seed(7)
    expected = model(X)
    torch.manual_seed(7)
    actual = net.replay(X, net.open_decisions(len(X)))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "kind",
    [Base, OptionalInput, Dropout, DropoutInBranch, Auxiliary, ExtraLayersInTraining, RootParameter, TupleOutput],
)
def test_models_of_ones_own_behave_right_in_both_modes(kind, training):
    model = kind()
    assert_open_is_original(model, gated(model), training)


def test_dropout_is_random_in_training_and_off_in_evaluation():
    net = gated(Dropout())
    with torch.no_grad():
        opened = net.open_decisions(4)
        assert torch.equal(net.replay(X, opened), net.replay(X, opened))
        net.train()
        assert not torch.equal(net.replay(X, opened), net.replay(X, opened))


def test_dropout_does_not_stand_in_the_way_of_a_channel_gate():
    assert [str(s.kind) for s in gated(DropoutInBranch()).plan.gates] == ["spatial", "channel"]


def test_gates_train_where_training_has_extra_layers():
    net = gated(ExtraLayersInTraining()).train()
    y, decisions = net.decide(X)
    (y.mean() + net.cost(decisions).ratio.mean()).backward()
    assert all(p.grad is not None for p in net.gate_parameters())


def test_a_branch_that_training_lacks_is_refused():
    with pytest.raises(PlanError, match="not in training"):
        gated(BranchInEvaluationOnly())


def test_data_dependent_control_flow_names_the_node():
    with pytest.raises(TraceError, match=r"DataDependent cannot be read after node '\w+'"):
        plan(DataDependent(), DualGating(), X)


def test_two_inputs_are_refused():
    with pytest.raises(TraceError, match="'scale'"):
        plan(TwoInputs(), DualGating(), X)


def test_an_example_that_does_not_fit_names_the_node():
    with pytest.raises(TraceError, match=r"node 'stem'.*\[4, 5, 8, 8\]"):
        plan(Base(), DualGating(), torch.zeros(4, 5, 8, 8))


def test_too_small_an_example_is_a_convgate_error():
    class Deep(Base):
        def forward(self, x):
            return super().forward(F.max_pool2d(x, 4))

    with pytest.raises(ConvgateError):
        plan(Deep(), DualGating(), torch.zeros(1, 3, 2, 2))


def test_shared_weights_are_skipped_with_a_reason():
    model = Shared()
    net = gated(model)
    reasons = [r.reason for site in net.plan.sites for r in site.skipped] + [r.reason for r in net.plan.skipped]
    assert any("called 2 times" in reason for reason in reasons)
    assert not any(s.name.startswith("block.conv1") for s in net.plan.gates)
    assert_open_is_original(model, net)
    names = [layer.name for layer in net.ledger.layers]
    assert len(set(names)) == len(names) == 5


def test_root_parameters_and_buffers_keep_their_kind():
    net = gated(RootParameter())
    keys = net.state_dict().keys()
    assert {"scale", "shift"} <= keys
    assert not {"hidden", "constant"} & keys
    assert isinstance(net.scale, nn.Parameter)


def test_tracing_leaves_random_numbers_and_gradients_alone():
    model = Base()
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    plan(model, DualGating(), X)
    assert torch.equal(torch.rand(1), expected)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("model", [None, "resnet18", lambda x: x])
def test_a_model_that_is_no_module_is_refused(model):
    with pytest.raises(ConvgateError):
        plan(model, DualGating(), X)


def test_a_method_that_is_none_is_refused():
    with pytest.raises(ConvgateError):
        plan(Base(), "DualGating", X)


def test_non_finite_examples_do_not_matter():
    plan(Base(), DualGating(), torch.full((1, 3, 8, 8), float("nan")))


def test_fingerprints_tell_structures_apart_and_ignore_weights():
    assert trace(Base(), X).fingerprint() == trace(Base(), X).fingerprint()
    other = Base()
    with torch.no_grad():
        other.fc.weight.zero_()
    assert trace(other, X).fingerprint() == trace(Base(), X).fingerprint()
    assert trace(Dropout(), X).fingerprint() != trace(Base(), X).fingerprint()


def test_branches_and_features_of_a_block():
    t = trace(Base(), X)
    (branch,), _ = branches(t)
    assert (branch.name, branch.height, branch.width) == ("block", 8, 8)
    assert [str(t.node(c).target) for c in branch.convs] == ["block.conv1", "block.conv2"]
    found, rejected = features(t)
    assert [f.name for f in found] == ["block.conv1"]
    assert {r.name for r in rejected} == {"stem", "block.conv2"}


@pytest.mark.parametrize("value", [torch.zeros(2, 3), None, 5])
def test_trace_refuses_bad_examples(value):
    with pytest.raises(InputError, match="example"):
        trace(Base(), value)


class _InPlaceLine(nn.Module):
    """Writes in place in a line of its own, whose result nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        y = self.first(x)
        y.mul_(2.0)
        self.relu(y)
        return y + self.second(y)


def test_calls_in_place_whose_result_is_unused_are_kept():
    model = _InPlaceLine().eval()
    images = torch.randn(2, 3, 8, 8)
    traced = trace(model, images)
    graph = torch.fx.GraphModule(traced.module, traced.evaluation)
    with torch.no_grad():
        torch.testing.assert_close(graph(images), model(images))
