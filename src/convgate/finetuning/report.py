"""A page that says what finetuning came to: what is kept, the curve, the course of training, and what was done."""

from pathlib import Path
from typing import TYPE_CHECKING

from convgate.gated import gate_weights
from convgate.pages import page_template

if TYPE_CHECKING:
    from convgate.finetuning.finetuned import Finetuned

__all__ = ["report"]


def report(result: "Finetuned") -> str:
    """The page, HTML that needs nothing else."""
    after = result.after
    return page_template(Path(__file__).parent / "templates" / "finetuned.html.j2").render(
        title="convgate finetune",
        before=result.before,
        after=after,
        labelled=after.accuracy is not None,
        error=(after.agreement * (1 - after.agreement) / after.images) ** 0.5,
        seconds=result.seconds,
        steps=result.steps,
        on_the_way=result.on_the_way,
        budget=result.budget,
        kept=result.kept,
        curve=sorted(result.curve, key=lambda point: point.share),
        weights=str(gate_weights(result.network)),
        about={**result.about, "budget": f"{result.budget:.1%} of the dense MACs"},
    )
