"""One method's gates, several methods' penalties."""

import pytest
import torch

from convgate import BatchShaping, ChannelGating, Combined, DualGating, GlobalGater, LayerSkipping, plan
from convgate.errors import InputError
from convgate.gating import ChannelGroups
from convgate.methods import create as create_method
from convgate.models import create


def test_batch_shaping_on_dual_gatings_channel_gates(make_small):
    """The gates are dual gating's; the terms are both methods', the shaping on channel gates alone."""
    dual, shaping = DualGating(budget=0.4), BatchShaping(l0_start=0.0, l0_end=0.0)
    method = Combined(dual, [shaping])
    net, x = make_small(method, n=6)
    plain, _ = make_small(dual, n=6)
    assert net.plan.gates == plain.plan.gates
    net.train()
    _, decisions = net.decide(x)
    terms = method.penalty(decisions, net.ledger, 0.1)
    expected = dual.penalty(decisions, net.ledger, 0.1) | shaping.penalty(
        decisions.of_kind(ChannelGroups), net.ledger, 0.1
    )
    assert terms.keys() == {"budget", "bounds", "shaping", "l0"}
    for name, term in expected.items():
        torch.testing.assert_close(terms[name], term)


def test_terms_of_one_name_add_up(make_small):
    net, x = make_small(LayerSkipping())
    _, decisions = net.decide(x)
    one, two = LayerSkipping(target=0.3), LayerSkipping(target=0.9)
    both = Combined(one, [two]).penalty(decisions, net.ledger, 0.0)["target"]
    alone = [m.penalty(decisions, net.ledger, 0.0)["target"] for m in (one, two)]
    torch.testing.assert_close(both, sum(alone))


def test_terms_of_the_gates_parameters_are_added_too(make_small):
    net, x = make_small(ChannelGating())
    _, decisions = net.decide(x)
    parts = ChannelGating(weight=0.1), ChannelGating(target=3.0, weight=0.2)
    both = Combined(parts[0], [parts[1], LayerSkipping()]).terms(decisions, net.convgate, net.ledger, 0.0)
    assert both.keys() == {"thresholds", "target"}
    alone = [part.terms(decisions, net.convgate, net.ledger, 0.0)["thresholds"] for part in parts]
    torch.testing.assert_close(both["thresholds"], sum(alone))


def test_terms_of_thresholds_take_gates_that_have_some(make_small):
    net, x = make_small(DualGating())
    with pytest.raises(InputError, match="no gate with thresholds"):
        ChannelGating().terms(net.decide(x)[1], net.convgate, net.ledger, 0.0)
    with pytest.raises(InputError, match="about activation gates, and DualGating makes spatial and channel gates"):
        Combined(DualGating(), [ChannelGating()])
    with pytest.raises(InputError, match="makes spatial gates"):
        Combined(DualGating(channel=False), [BatchShaping()])


def test_parts_may_be_plain_data():
    method = Combined({"name": "LayerSkipping", "options": {"target": 0.3}}, ({"name": "DualGating"},))
    assert method == Combined(LayerSkipping(target=0.3), [DualGating()])
    description = method.describe()
    assert description["options"]["gates"] == {
        "name": "LayerSkipping",
        "options": LayerSkipping(0.3).describe()["options"],
    }
    assert create_method("Combined", description["options"]) == method


def test_a_trunk_and_a_schedule_are_those_of_the_gates(make_small):
    method = Combined(GlobalGater(dropout=0.5), [BatchShaping()])
    net, _ = make_small(method)
    method.schedule(net, 0.5)
    assert net.convgate.trunk.dropout.item() == 0.25
    planned = plan(create("cifar_resnet8").eval(), method, torch.zeros(1, 3, 32, 32))
    assert "trunk" in planned.ledger.gates


@pytest.mark.parametrize(
    "options",
    [
        {"gates": "DualGating"},
        {"gates": None},
        {"gates": {"options": {}}},
        {"gates": {"name": "Nothing"}},
        {"penalties": []},
        {"penalties": DualGating()},
        {"penalties": "DualGating"},
        {"penalties": [3]},
        {"penalties": [{"name": "BatchShaping", "options": {"a": 0}}]},
    ],
    ids=str,
)
def test_bad_parts_are_refused(options):
    with pytest.raises(InputError):
        Combined(**options)
