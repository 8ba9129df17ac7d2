"""What finetuning does is checked when it is written down, not after an hour."""

import pytest

from convgate.errors import InputError
from convgate.finetuning.settings import Settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr": -1.0}, r"Settings\(lr=-1.0\): lr is a finite number of at least 0"),
        ({"lr": float("nan")}, "lr is a finite number of at least 0"),
        ({"rounds": -1}, "rounds is a whole number of at least 0"),
        ({"rounds": 2.5}, "rounds is a whole number"),
        ({"mix": 1.5}, r"mix is a number in \[0, 1\]"),
        ({"small_size": 0.0}, r"small_size is a number in \(0, 1\]"),
        ({"gate_lr": "fast"}, "gate_lr is"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(settings, said):
    with pytest.raises(InputError, match=said):
        Settings(**settings)
