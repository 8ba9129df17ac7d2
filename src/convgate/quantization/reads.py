"""Which layers of a network will compute with integers, and what is known of the maps that they read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from convgate.engine.lowering import lower
from convgate.engine.program import Complete, Conv, Program
from convgate.quantization.quantize import kept_layers
from convgate.quantization.roles import convolutions, roles, signs
from convgate.quantization.split import split_activations
from convgate.quantization.ties import joined
from convgate.reading.modes import evaluating

__all__ = ["Read", "reads"]


@dataclass(frozen=True)
class Read:
    """A layer that will compute with integers, by its name, and the map that it reads.

    Attributes:
        layer: the module's name in the network.
        group: maps of one group have one scale, if their ranges are alike (`convgate.quantization.ties`).
        shared: maps of one such number have one scale in any case; all of them are in one group.
        negative: whether the map, or one of its group, may be negative, as far as operations tell.

    """

    layer: str
    group: int
    shared: int
    negative: bool


def reads(network: nn.Module, example: Any, keep: Sequence[str], *, tie: bool) -> tuple[Read, ...]:
    """The `nn.Conv2d` and `nn.Linear` of a network that `convgate.quantize` makes integers of, ordered by groups.

    Gates' heads and fill paths are left out.

    Args:
        network: a gated network, or any that can be lowered; it stays as it is.
        example: see `lower`.
        keep: layers that stay float32, as `convgate.quantize` takes them.
        tie: see `convgate.quantize`.

    Raises:
        LoweringError, InputError, TraceError: the network cannot be quantised, or there is no such layer to keep.

    """
    if isinstance(example, Tensor) and (weight := next(network.parameters(), None)) is not None:
        example = example.to(weight.device)
    with evaluating(network):
        program = lower(network, example).program
    program, chosen = split_activations(program, convolutions(program, kept_layers(program, keep), heads=None))
    negative = signs(program)
    parts = roles(program, chosen, negative)
    # Which ranges are alike is not known before images are seen.
    may_share = joined(parts.encoded, parts.shortcuts if tie else ())
    layers = dict(network.named_modules(remove_duplicate=False))
    read = {
        layer: values
        for layer, values in _read_values(program, chosen | parts.sums.keys()).items()
        if isinstance(layers.get(layer), nn.Conv2d | nn.Linear)
    }
    group, groups = _numbered(read, may_share)
    shared, _ = _numbered(read, parts.encoded)
    found = [Read(layer, group[layer], shared[layer], bool(groups[group[layer]] & negative)) for layer in read]
    return tuple(sorted(found, key=lambda one: one.group))


def _numbered(
    read: Mapping[str, set[str]], by_value: Mapping[str, frozenset[str]]
) -> tuple[dict[str, int], list[frozenset[str]]]:
    """(layer -> the number of the group of what it reads, the groups)."""
    wide = {layer: frozenset().union(*(by_value[value] for value in values)) for layer, values in read.items()}
    groups = list[frozenset[str]]()
    for values in wide.values():  # a layer that is called on several maps joins their groups
        apart = [group for group in groups if not group & values]
        groups = [*apart, values.union(*(group for group in groups if group & values))]
    return {layer: next(n for n, own in enumerate(groups) if values <= own) for layer, values in wide.items()}, groups


def _read_values(program: Program, chosen: frozenset[str]) -> dict[str, set[str]]:
    """Layer -> the values that its calls read, of layers of which every call computes with integers."""
    found: dict[str, set[str]] = {}
    others = set()
    for op in program.operations:
        if isinstance(op, Conv | Complete):
            layer = op.layer.partition("#")[0]
            if op.output in chosen:
                found.setdefault(layer, set()).add(op.inputs[0])
            else:
                others.add(layer)
    return {layer: values for layer, values in found.items() if layer not in others}
