"""From an fx graph to simple operations; what has no native form becomes a step of PyTorch's."""

from collections.abc import Mapping
from typing import Any

from torch import Size, fx, nn

from convgate.engine.lowering.aliases import tensors
from convgate.engine.lowering.draft import Draft, Expanded, GateSymbol, Symbol, Unsupported
from convgate.engine.lowering.layers import settled
from convgate.engine.lowering.partner import Again, Beyond, Held, Partner
from convgate.engine.lowering.source import Source, Translation
from convgate.engine.lowering.views import as_rows
from convgate.engine.lowering.walker import CONTAINERS, Walker, is_record
from convgate.engine.outputs import Rows
from convgate.engine.program import Slice

__all__ = ["described", "translate"]


def translate(source: Source, images: str, *, external: bool) -> Translation:
    """Translate a graph whose input is to have the name `images`; PyTorch may compute nodes if `external`."""
    forced: dict[str, str] = {}
    while True:
        try:
            return _translate(source, images, external, forced)
        except Again as again:
            forced |= dict.fromkeys(again.nodes - forced.keys(), again.reason)


def _translate(source: Source, images: str, external: bool, forced: Mapping[str, str]) -> Translation:
    draft = Draft()
    done = Translation(draft, draft.new(images, source.image))
    done.outside.kinds = {name: spec.kind for name, spec in source.gate_specs.items()}
    walker = Walker(source.root, draft, source.layer_names, source.gate_specs)
    partner = Partner(source, done, walker, external, forced)
    placeholders = [node for node in source.graph.nodes if node.op == "placeholder"]
    walker.known = dict.fromkeys(placeholders) | {placeholders[0]: done.images}
    walker.partner = partner
    for node in source.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        try:
            if node.name in forced:
                raise Unsupported(forced[node.name])
            walker.step(node)
        except Unsupported as reason:
            if not external and not isinstance(reason, Beyond):
                done.missing[node.name] = f"{described(source.root, node)}: {reason}"
            # Also where it is not allowed: what comes after it is looked at, so that all that is missing is named.
            partner.take(node, f"{described(source.root, node)}: {reason}")
    if not done.missing:
        result = next(node for node in source.graph.nodes if node.op == "output").args[0]
        _return(done, walker, partner, result[0] if source.gate_specs else result, external)
    partner.finish()
    return done


def _return(done: Translation, walker: "Walker", partner: "Partner", result: Any, external: bool) -> None:
    """What the network returns: its tensors by number, in the structure that it gives them."""

    def arranged(part: Any) -> Any:
        if isinstance(part, fx.Node) and is_record(part.target):
            # By field, as files and callers without its class can have it; `transformers` leaves fields of None out.
            sparse = issubclass(part.target, Mapping)  # type: ignore[arg-type]
            return {key: arranged(value) for key, value in part.kwargs.items() if value is not None or not sparse}
        if isinstance(part, fx.Node) and isinstance(part.target, type) and issubclass(part.target, CONTAINERS):
            make: Any = tuple if part.target is Size else part.target  # as the model makes it, of nodes
            part = make(*part.args, **part.kwargs)
        if isinstance(part, fx.Node):
            known = walker.known[part]
            if not external and (rows := as_rows(done.draft, known)) is not None and len(rows.shape) == 2:
                walker.readable(rows)
                return Rows(tuple(output(map_) for map_ in rows.maps), rows.of, rows.across)
            if not isinstance(known, Held) and not isinstance(known, Symbol | Expanded | GateSymbol):
                if isinstance(known, tuple | list | Mapping) and tensors(known):
                    return arranged(known)
                return None if known is None else output(part)
            return output(part)
        if isinstance(part, Symbol | Expanded):
            return output(part)
        if isinstance(part, Mapping):
            return {str(key): arranged(value) for key, value in part.items()}
        if isinstance(part, tuple | list):
            return tuple(arranged(value) for value in part)
        return None if part is None else output(part)

    def output(part: Any) -> int:
        try:
            symbol = walker.symbol(part) if isinstance(part, fx.Node) else part
            walker.readable(symbol)
            if isinstance(symbol, Symbol):
                symbol = settled(done.draft, "output", symbol)
            done.draft.value_of(symbol)
            done.outputs.append(_as_one_of(done, symbol))
        except Unsupported as reason:
            if not external:
                done.missing["output"] = f"what the network returns: {reason}"
            done.outputs.append(partner.returned(part))
        return len(done.outputs) - 1

    done.returns = arranged(result)


def _as_one_of(done: Translation, symbol: Symbol) -> Symbol:
    """An output: a copy of it, where the same value is returned in another shape, too."""
    others = [o for o in done.outputs if isinstance(o, Symbol) and o.value == symbol.value]
    if any(len(other.shape) != len(symbol.shape) for other in others):
        copied = done.draft.new(f"{symbol.value} again", symbol.shape)
        done.draft.emit(Slice((symbol.value,), copied.value, 0))
        return copied
    return symbol


def described(root: nn.Module, node: fx.Node) -> str:
    """What a node does, in a word: the class of the layer that it calls, or the name of its function."""
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))
