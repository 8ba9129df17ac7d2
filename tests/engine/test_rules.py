"""Every type of operation has a rule by which it is checked and one by which its size follows."""

import pytest

from convgate.engine import program as programs
from convgate.engine.check.rules import rule
from convgate.engine.extents import size_of
from convgate.engine.program import Completing, Decide, External, IntegerDecide, Operation

KINDS = [kind for kind in vars(programs).values() if isinstance(kind, type) and issubclass(kind, Operation)]
# `Completing` is what its kinds have in common.
KINDS = [kind for kind in KINDS if kind not in (Operation, External, Completing)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_operation_has_rules(kind):
    assert rule.dispatch(kind) is not rule.dispatch(Operation)
    if kind not in (Decide, IntegerDecide):  # they write no value
        assert size_of.dispatch(kind) is not size_of.dispatch(Operation)
