import inspect

import pytest

from convgate import errors
from convgate.errors import ConvgateError


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_a_convgate_error_with_a_docstring(name):
    error = getattr(errors, name)
    assert issubclass(error, ConvgateError)
    assert inspect.getdoc(error)
    assert str(error("what, and what to do")) == "what, and what to do"


def test_input_error_is_a_value_error():
    assert issubclass(errors.InputError, ValueError)


def test_all_lists_every_error():
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert defined == set(errors.__all__)
