"""Which values lie behind the results of nodes, and which of them share memory."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from convgate.engine.lowering.draft import Draft, Expanded, GateSymbol, Rowed, Symbol
from convgate.engine.program import Pool, Slice

__all__ = ["has_symbols", "overlapping", "replaced", "tensors"]


def tensors(result: Any) -> list[Symbol | Expanded]:
    """All tensors in what a node returns, in their order."""
    if isinstance(result, Symbol | Expanded):
        return [result]
    if isinstance(result, Rowed):
        return list(result.maps)
    parts = result.values() if isinstance(result, Mapping) else result if isinstance(result, tuple | list) else ()
    return [symbol for part in parts for symbol in tensors(part)]


def has_symbols(values: Any) -> bool:
    """Whether anything in `values` is computed by the program, so that it is not known while translating."""
    if isinstance(values, tuple | list):
        return any(has_symbols(value) for value in values)
    if isinstance(values, Mapping):
        return any(has_symbols(value) for value in values.values())
    return isinstance(values, Symbol | Expanded | GateSymbol | Rowed)


def replaced(symbols: Any, old: str, new: str) -> Any:
    """The symbols of `old` as symbols of `new`."""
    if isinstance(symbols, Symbol) and symbols.value == old:
        return replace(symbols, value=new)
    if isinstance(symbols, Expanded):
        return Expanded(replaced(symbols.vector, old, new), symbols.over)
    if isinstance(symbols, Rowed):
        return replace(symbols, maps=tuple(replaced(map_, old, new) for map_ in symbols.maps))
    if isinstance(symbols, tuple | list):
        return type(symbols)(replaced(symbol, old, new) for symbol in symbols)
    return symbols


def overlapping(draft: Draft, value: str) -> set[str]:
    """The values that are parts of `value`, of which it is a part, or that are other parts of that."""
    parts = [(op.inputs[0], op.output) for op in draft.operations if isinstance(op, Slice | Pool) and _is_view(op)]
    parts += draft.views
    found = {value}
    while True:
        more = found | {name for pair in parts if found.intersection(pair) for name in pair}
        if more == found:
            return found
        found = more


def _is_view(operation: Slice | Pool) -> bool:
    return isinstance(operation, Slice) or operation.kernel == (1, 1)
