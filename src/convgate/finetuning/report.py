"""A page that says what finetuning came to: one table, one curve."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convgate.finetuning.finetune import Finetuned

__all__ = ["report"]


def report(result: "Finetuned") -> str:
    """The page, HTML that needs nothing else."""
    points = sorted(result.curve, key=lambda point: point.share)
    rows = "".join(f"<tr><td>{p.share:.1%}</td><td>{p.agreement:.1%}</td><td>{p.kl:.3f}</td></tr>" for p in points)
    line = " ".join(f"{40 + 320 * p.share:.1f},{210 - 180 * p.agreement:.1f}" for p in points)
    dots = "".join(f'<circle cx="{40 + 320 * p.share:.1f}" cy="{210 - 180 * p.agreement:.1f}" r="3"/>' for p in points)
    kept = "".join(
        f"<li>{wanted:.0%} of the answers stay {'at no budget tried' if share is None else f'from {share:.1%} on'}</li>"
        for wanted, share in result.kept.items()
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>convgate finetune</title>
<style>body{{font:16px system-ui;max-width:44rem;margin:2rem auto;padding:0 1rem}}td,th{{padding:.2rem 1rem .2rem 0;
text-align:left}}svg{{width:100%;max-width:30rem}}polyline{{fill:none;stroke:currentColor}}circle,text{{fill:currentColor}}
text{{font-size:12px}}</style>
<h1>{result.after.agreement:.1%} of the answers at {result.after.share:.1%} of the MACs</h1>
<p>Before: {result.before}.<br>After {result.seconds / 60:.1f} minutes and {result.steps} steps: {result.after}.
Judged on {result.after.images} images.</p>
<h2>By calibration alone</h2><ul>{kept}</ul>
<svg viewBox="0 0 400 240" role="img" aria-label="answers that stay, over the share of the MACs">
<polyline points="{line}"/>{dots}<text x="40" y="230">share of the dense MACs: 0 to 100 %</text>
<text x="4" y="34">100 %</text></svg>
<table><tr><th>MACs</th><th>answers</th><th>KL</th></tr>{rows}</table></html>
"""
