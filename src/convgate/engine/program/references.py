"""What the fields of an operation name: values, arrays, gates, layers."""

import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from convgate.engine.program.deciding import Decide, External
from convgate.engine.program.operation import Operation

__all__ = ["decides", "label", "reads", "reference_fields", "references"]

_NAMES = ("value", "array", "gate", "mask", "layer")


def reference_fields(kind: type[Operation]) -> Mapping[str, str]:
    """Field -> what it names ("value", "array", "gate", "mask" or "layer"), of those fields that name anything.

    >>> from convgate.engine.program import Mask
    >>> reference_fields(Mask)
    {'inputs': 'value', 'output': 'value', 'gate': 'gate'}
    """
    kept: Any = kind  # a frozen dataclass's hash is not, for mypy, that of its class
    return _reference_fields(kept)


@cache
def _reference_fields(kind: Any) -> Mapping[str, str]:
    found = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if typing.get_origin(hint) is tuple:
            hint = typing.get_args(hint)[0]
        what = getattr(hint, "__metadata__", ("",))[0]
        if what in _NAMES:
            found[name] = what
    return found


def references(operation: Operation, what: str) -> tuple[str, ...]:
    """The values, arrays, gates or layers (`what`: in the singular) that an operation names.

    >>> from convgate.engine.program import Mask
    >>> references(Mask(("x",), "y", "first"), "gate")
    ('first',)
    """
    names: list[str] = []
    for name, kind in reference_fields(type(operation)).items():
        if kind == what:
            entry: Any = getattr(operation, name)
            names += [entry] if isinstance(entry, str) else entry
    return tuple(name for name in names if name)


def reads(operation: Operation, what: str) -> tuple[str, ...]:
    """As `references`, without what it writes or decides."""
    own = {operation.output, *(operation.decides if isinstance(operation, External) else ())}
    return tuple(name for name in references(operation, what) if name not in own)


def label(operation: Operation) -> str:
    """A name of one operation of a program: what it writes, or PyTorch's name for it."""
    return operation.target if isinstance(operation, External) else operation.output


def decides(operation: Operation) -> tuple[str, ...]:
    """The gates that an operation decides."""
    if isinstance(operation, Decide):
        return (operation.output,)
    return operation.decides if isinstance(operation, External) else ()
