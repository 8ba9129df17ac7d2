"""Methods by name: registered, listed, created; budgets, terms and hashes that every method has."""

from dataclasses import dataclass

import pytest
import torch

import convgate
from convgate import Combined, DualGating, GlobalGater, LayerSkipping
from convgate.errors import InputError
from convgate.gating import LossTerms
from convgate.methods import METHODS, create_method, list_methods, register_method

X = torch.zeros(2, 3, 16, 16)


@pytest.fixture
def foreign():
    """A method of somebody else's package."""

    @register_method
    @dataclass(frozen=True)
    class Foreign(DualGating):
        channel: bool = False

    yield Foreign
    METHODS.pop("Foreign")


def test_a_registered_method_is_known_to_recipes_files_and_lists(foreign, tmp_path):
    from convgate.models import create

    assert "Foreign" in list_methods()
    assert list_methods("F*") == ["Foreign"]
    method = create_method("Foreign", {"group": 2}, budget=0.3)
    assert (type(method), method.group, method.budget) == (foreign, 2, 0.3)
    net = convgate.gate(create("cifar_resnet8", width=4), method, X)
    convgate.save(net, tmp_path / "net.safetensors")
    assert convgate.load(tmp_path / "net.safetensors").plan.method == net.plan.method


def test_what_is_no_method_or_has_a_name_that_is_taken_is_refused(foreign):
    assert register_method(foreign) is foreign  # once more is no mistake: modules are reloaded
    with pytest.raises(InputError, match="frozen dataclass"):
        register_method(dict)
    with pytest.raises(InputError, match="two methods are called 'Foreign'"):
        register_method(dataclass(frozen=True)(type("Foreign", (DualGating,), {"__module__": "elsewhere"})))
    with pytest.raises(InputError, match="there is no method 'Nope'"):
        create_method("Nope")


# -- budgets -----------------------------------------------------------------------------------------------------------


def test_options_of_earlier_versions_are_taken_as_what_they_meant():
    assert DualGating(macs=0.3, budget="noise_free") == DualGating(budget=0.3, counted="noise_free")
    assert DualGating(budget="sampled") == DualGating()
    old = create_method("DualGating", {"macs": 0.4, "budget": "noise_free"})
    assert old == DualGating(0.4, counted="noise_free")
    assert old.describe()["options"].keys().isdisjoint({"macs"})
    with pytest.raises(InputError, match="give the budget alone"):
        DualGating(budget=0.3, macs=0.4)
    with pytest.raises(InputError, match="give the budget alone"):
        DualGating(budget=0.5, macs=0.4)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_a_budget_or_knows_none(name):
    method = METHODS[name]().with_budget(0.37)
    assert type(method) is METHODS[name]
    if "budget" in METHODS[name].__dataclass_fields__:
        assert method.budget == 0.37
        with pytest.raises(InputError, match="budget"):
            method.with_budget(1.5)


def test_a_budget_reaches_all_parts_of_a_combination():
    parts = Combined(LayerSkipping(), [DualGating(counted="noise_free")]).with_budget(0.3).parts
    assert parts == (LayerSkipping(), DualGating(0.3, counted="noise_free"))


# -- terms and hashes --------------------------------------------------------------------------------------------------


def test_a_loss_term_has_its_name_alone():
    terms = LossTerms("Mine")
    terms.add("a", torch.tensor(1.0))
    with pytest.raises(InputError, match="Mine has two loss terms called 'a'"):
        terms.add("a", torch.tensor(1.0))
    with pytest.raises(InputError, match="must be a scalar"):
        terms.add("b", torch.ones(2))
    assert float(terms.total) == 1
    assert float(LossTerms("Mine").total) == 0


def test_further_terms_of_a_method_do_not_replace_those_of_its_base(make_small):
    @dataclass(frozen=True)
    class Mine(DualGating):
        def terms(self, *given):
            terms = super().terms(*given)
            terms.add("budget", torch.tensor(1.0))
            return terms

    net, x = make_small(Mine())
    _, decisions = net.decide(x)
    with pytest.raises(InputError, match="Mine has two loss terms called 'budget'"):
        Mine().terms(decisions, net.convgate, net.ledger, 0.5)
    terms = DualGating().terms(decisions, net.convgate, net.ledger, 0.5)
    assert dict(terms) == DualGating().penalty(decisions, net.ledger, 0.5)


@pytest.mark.parametrize(
    "method",
    [
        *(method() for method in METHODS.values()),
        DualGating(tile={16: 2, 8: 2, 4: 2}),
        LayerSkipping(targets={"layer1.0": 1.0}),
        GlobalGater(gater={"name": "cifar_resnet8", "options": {"width": 4}}),
    ],
    ids=repr,
)
def test_methods_can_be_hashed_and_made_again_of_plain_data(method):
    description = method.describe()
    again = create_method(description["name"], description["options"])
    assert again == method
    assert hash(again) == hash(method)
