"""Options are checked by the types of their fields, and errors say what is allowed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import pytest

from convgate.errors import InputError
from convgate.gated.options import Bounds, BudgetShare, NotNegative, Positive, Share, Size, check_options
from convgate.methods import METHODS


@dataclass(frozen=True)
class Options:
    budget: BudgetShare = 0.5
    share: Share = 0.0
    weight: NotNegative = 0.0
    slope: Positive = 1.0
    parts: Annotated[int, Bounds(least=2)] = 2
    any_number: float = -3.0
    bias: float | None = None
    flag: bool = True
    word: Literal["one", "two"] = "one"
    layers: Literal["all"] | tuple[str, ...] = "all"
    tile: Size | Mapping[int, Size] | None = None
    targets: Mapping[str, Share] = field(default_factory=dict)
    anything: Any = None
    foreign: set[int] = field(default_factory=set)


WRONG = {
    "budget": (0, "a share of the dense MACs in (0, 1]"),
    "share": (1.5, "a number in [0, 1]"),
    "weight": (-1, "a finite number of at least 0"),
    "slope": (0.0, "a finite number above 0"),
    "parts": (1, "a whole number of at least 2"),
    "any_number": (float("nan"), "a finite number"),
    "bias": ("much", "a finite number, or None"),
    "flag": (1, "true or false"),
    "word": ("three", "one of one, two"),
    "layers": ([], "one of all, or a list of at least one of names"),
    "tile": (
        {8: 0},
        "a whole number of at least 1, a mapping from whole numbers to whole numbers of at least 1, or None",
    ),
    "targets": ({"layer1": 2}, "a mapping from names to numbers in [0, 1]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_allowed_is_refused_with_what_is(name):
    value, allowed = WRONG[name]
    with pytest.raises(InputError) as error:
        check_options(Options(**{name: value}))
    assert str(error.value) == f"Options({name}={value!r}): {name} is {allowed}"


@pytest.mark.parametrize("name", ["budget", "weight", "parts", "any_number"])
@pytest.mark.parametrize("value", [True, "1", None, float("inf")])
def test_numbers_are_finite_numbers(name, value):
    with pytest.raises(InputError, match=name):
        check_options(Options(**{name: value}))


def test_what_plain_data_make_of_values_is_made_right():
    options = Options(layers=["a", "b"], tile={"8": 2, 4: 1}, targets={"layer1": 1}, anything=object(), foreign={1})
    check_options(options)
    assert options.layers == ("a", "b")
    assert options.tile == {8: 2, 4: 1}
    assert hash(options.targets) == hash(options.targets)


def test_defaults_and_whole_numbers_for_shares_pass():
    check_options(Options())
    check_options(Options(budget=1, share=1, tile=3))


@pytest.mark.parametrize("name", METHODS)
def test_every_methods_options_are_checked_by_their_types(name):
    for option in fields(METHODS[name]):
        with pytest.raises(InputError, match=rf"{name}\({option.name}="):
            METHODS[name](**{option.name: object})
