"""A plan as a table that people can read: plain text, and for terminals with `rich` installed a drawn one."""

from typing import TYPE_CHECKING, Any

from convgate.columns import in_columns

if TYPE_CHECKING:
    from convgate.gated.plan import Plan

__all__ = ["as_rich", "as_text"]

_HEAD = ("site", "convs", "output", "MACs", "share", "gates")
_NUMBERS = (1, 3, 4)


def as_text(plan: "Plan") -> str:
    """The plan's summary, a line for each site, and what is not gated with the reason."""
    parts = [plan.summary(), "", *in_columns((_HEAD, *_sites(plan)), right=_NUMBERS)]
    if plan.skipped:
        parts += ["", *in_columns((("not gated", "why"), *((r.name, r.reason) for r in plan.skipped)))]
    return "\n".join([*parts, "", *_notes(plan)]) + "\n"


def as_rich(plan: "Plan") -> Any:
    """The same for `rich`."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    table = Table(*_HEAD, title=plan.summary(), box=box.SIMPLE_HEAD)
    for row in _sites(plan):
        table.add_row(*row)
    skipped = Table("not gated", "why", box=box.SIMPLE_HEAD)
    for rejected in plan.skipped:
        skipped.add_row(rejected.name, rejected.reason)
    return Group(table, *([skipped] if plan.skipped else []), *_notes(plan))


def _sites(plan: "Plan") -> list[tuple[str, ...]]:
    macs = {layer.name: layer.macs for layer in plan.ledger.layers}
    rows: list[tuple[str, ...]] = []
    for site in plan.sites:
        spent = sum(macs[plan.layer_names[node]] for node in site.convs)
        gates = ", ".join(gate.describe() for gate in site.gates)
        output = "x".join(map(str, site.output[1:]))
        share = f"{spent / max(plan.ledger.dense, 1):.1%}"
        rows.append((site.name, str(len(site.convs)), output, f"{spent:,}", share, gates))
        rows += [
            (f"  {left.name}", "", "", "", "", f"no {left.kind.word} gate: {left.reason}") for left in site.skipped
        ]
    return rows


def _notes(plan: "Plan") -> list[str]:
    notes = [f"not counted: {', '.join(plan.ledger.uncounted) or 'nothing'}"]
    if plan.idle:
        notes.append(f"gates that save nothing here: {', '.join(plan.idle)}")
    return notes + _starts(plan)


def _starts(plan: "Plan") -> list[str]:
    """How the gates start: one line if all start in the same way, else one for each kind and start."""
    kinds: dict[str, list[str]] = {}
    for gate in plan.gates:
        start = plan.starts.get(gate.name)
        if start is None:
            continue
        if start.spread:
            how = f"with logits about {start.logit:.1f}, which differ from image to image"
        else:
            how = f"{'open' if start.logit >= 0 else 'closed'} (logit {start.logit:.1f})"
        kinds.setdefault(how, []).append(gate.kind.word)
    if len(kinds) == 1 and len(plan.starts) == len(plan.gates):
        return [f"gates start {how}" for how in kinds]
    return [f"{' and '.join(dict.fromkeys(words))} gates start {how}" for how, words in kinds.items()]
