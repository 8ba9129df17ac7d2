"""A page that says what finetuning came to: what is kept, the curve, the course of training, and what was done."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from convgate.gated import gate_weights

if TYPE_CHECKING:
    from convgate.finetuning.finetuned import Finetuned

__all__ = ["report"]

_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui;max-width:46rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;display:block;overflow-x:auto}
td,th{padding:.25rem 1rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #8884}
svg{width:100%;max-width:34rem}polyline{fill:none;stroke:currentColor;stroke-width:1.5}
circle,text{fill:currentColor}line{stroke:#8888}text{font-size:12px}
"""


def report(result: "Finetuned") -> str:
    """The page, HTML that needs nothing else."""
    after = result.after
    labelled = after.accuracy is not None
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>convgate finetune</title><style>{_STYLE}</style>
<h1>{after.agreement:.1%} of the answers at {after.share:.1%} of the MACs</h1>
<p>Judged on {after.images} images that were not trained on; one standard error of the answers that stay is
{_error(after.agreement, after.images):.1%}. Training took {result.seconds / 60:.1f} minutes, {result.steps} steps.</p>
{_before_and_after(result, labelled)}
<p>{after.changing:.1%} of the gates' units are open for some of these images and closed for others; the rest are the
same for all, as in a network that was pruned.</p>
<h2>From which budget on answers stay</h2>
<p>{_origin(result)}</p>
<ul>{_kept(result)}</ul>
{_curve(result)}
{_points(result, labelled)}
<h2>What gates cost</h2>
<p>Their MACs are counted in every share above. On disk and in memory {escape(str(gate_weights(result.network)))}.</p>
<h2>What was done</h2>
{_facts(dict(result.about) | {"budget": f"{result.budget:.1%} of the dense MACs"})}
</html>
"""


def _origin(result: "Finetuned") -> str:
    judged = f"Judged on {result.curve[0].images} of the images." if result.curve else ""
    if result.on_the_way:
        way = "As the network was on its way down, when the weights had learned for a while at each of these budgets."
        return f"{way} {judged}"
    way = f"By calibration alone, of the network as it is now, whose weights were trained for {result.budget:.0%}."
    return f"{way} {judged}"


def _error(share: float, n: int) -> float:
    return float((share * (1 - share) / n) ** 0.5)


def _share(value: float | None) -> str:
    """A share, where there is one: a point of the curve may be judged on images of which none is labelled."""
    return "unknown" if value is None else f"{value:.1%}"


def _row(cells: list[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _before_and_after(result: "Finetuned", labelled: bool) -> str:
    head = ["", "MACs", "answers that stay", "KL", *(["accuracy"] if labelled else [])]
    rows = [head]
    if labelled:
        rows.append(["dense", "100.0%", "100.0%", "0", _share(result.before.teacher_accuracy)])
    for name, judged in (("gated, before training", result.before), ("gated, after training", result.after)):
        accuracy = [_share(judged.accuracy)] if labelled else []
        rows.append([name, f"{judged.share:.1%}", f"{judged.agreement:.1%}", f"{judged.kl:.3f}", *accuracy])
    return f"<table>{_row(rows[0], 'th')}{''.join(map(_row, rows[1:]))}</table>"


def _kept(result: "Finetuned") -> str:
    return "".join(
        f"<li>{wanted:.0%} of the answers stay {'at no budget tried' if share is None else f'from {share:.1%} on'}</li>"
        for wanted, share in result.kept.items()
    )


def _curve(result: "Finetuned") -> str:
    points = sorted(result.curve, key=lambda point: point.share)
    places = [(40 + 320 * point.share, 210 - 180 * point.agreement) for point in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
    return f"""<svg viewBox="0 0 400 240" role="img" aria-label="answers that stay, over the share of the MACs">
<line x1="40" y1="210" x2="360" y2="210"/><line x1="40" y1="210" x2="40" y2="30"/>
<polyline points="{line}"/>{dots}<text x="40" y="230">share of the dense MACs: 0 to 100%</text>
<text x="4" y="34">100%</text><text x="22" y="212">0</text></svg>"""


def _points(result: "Finetuned", labelled: bool) -> str:
    head = _row(["MACs", "answers that stay", "KL", *(["accuracy"] if labelled else [])], "th")
    rows = "".join(
        _row([f"{p.share:.1%}", f"{p.agreement:.1%}", f"{p.kl:.3f}", *([_share(p.accuracy)] if labelled else [])])
        for p in sorted(result.curve, key=lambda point: point.share)
    )
    return f"<table>{head}{rows}</table>"


def _facts(about: Mapping[str, Any]) -> str:
    return f"<table>{''.join(_row([escape(str(key)), escape(str(value))]) for key, value in about.items())}</table>"
