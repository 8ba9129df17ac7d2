"""What each part of finetuning is worth: the same short run without it, or with another in its place.

MobileNetV2 at 80 % of its MACs, so many steps (which a busy machine does not change), on the training photographs of
`finetune.py` alone, a quarter of which is judged by. Every variant is a run of its own; it is skipped when its record
is there, and one that was killed goes on where it was.

    python benchmarks/finetune_ablation.py run --images PHOTOS --more COCO --weights WEIGHTS --out runs/ablation
    python benchmarks/finetune_ablation.py run --cifar cifar10.npz --weights WEIGHTS --out runs/ablation --steps 100
    python benchmarks/finetune_ablation.py table

`--cifar` takes a ResNet-20 and 2,500 training images of CIFAR-10 instead, 500 of which are judged by; it takes half a
minute of one core for each variant.

Rows go to benchmarks/results/finetune_ablation.csv. There are three groups: units close for good, as they do by
default; the same on the photographs alone that have labels; and gates that learn what to close. The first of a group is
what the others of it are compared with.
"""

import argparse
import csv
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from finetune import Pictures, add_arguments, trained
from records import RESULTS, add_row
from torch import Tensor

from convgate.errors import BudgetError
from convgate.finetuning import Budget
from convgate.finetuning.closing import order
from convgate.finetuning.closing.readers import Closable
from convgate.gated import GatedNetwork
from convgate.gating import Decisions, improved_semhash, logistic_straight_through, smooth_step

TABLE = RESULTS / "finetune_ablation.csv"
CLOSES, LABELLED, LEARNS = "units close for good", "photographs with labels alone", "gates learn what to close"
LEARNING = {"rounds": 0}


@dataclass(frozen=True)
class Variant:
    """A run that differs from the first of its group.

    Args:
        name: of its folder.
        group: which of the three.
        words: what is different.
        settings: of finetuning.
        method: options of the method.
        parts: what takes the place of a part: (module, where in it) -> instead.

    """

    name: str
    group: str
    words: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    method: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the other parts are in their places."""
        with ExitStack() as stack:
            for (module, where), instead in self.parts.items():
                *owner, name = where.split(".")
                place = importlib.import_module(f"convgate.finetuning.{module}")
                for part in owner:
                    place = getattr(place, part)
                stack.enter_context(patch.object(place, name, instead))
            yield


# -- other parts ----------------------------------------------------------------------------------------------------


def not_measured(costs: Any, layers: Any, *_: Any) -> None:
    """Instead of `Costs.measure`: what closing costs is as it was foretold."""
    costs.factors = {layer.gate.gate: [] for layer in layers}


def by_information(gate: Closable, information: Tensor, is_open: Tensor, *_: Any) -> order.Sequence:
    """Instead of `closing_sequence`: Fisher information alone, whatever the others can take over."""
    units = torch.where(is_open, information, torch.inf).argsort().tolist()
    units = units[: max(int(is_open.sum()) - order.fewest(gate.units), 0)]
    return order.Sequence(tuple(units), tuple(float(information[unit]) / 2 for unit in units))


def nothing(*_: Any, **__: Any) -> None:
    """Instead of what gives layers new weights."""


def no_distance(student: Tensor, *_: Any, **__: Any) -> Tensor:
    """Instead of the distillation: no teacher."""
    return 0 * student.float().sum()


def deciding_by(estimator: Callable[..., Tensor]) -> Callable[..., None]:
    """Instead of noise that fades: another estimator until the gates are held."""

    def set_estimator(network: GatedNetwork, *_: Any) -> None:
        for _, gate in network.gate_modules():
            gate.estimator = estimator

    return set_estimator


def semhash(logits: Tensor, *_: Any) -> Tensor:
    """Improved SemHash, binary for half of the images."""
    return improved_semhash(logits, torch.rand(len(logits), device=logits.device) < 0.5)


class FixedWeight(Budget):
    """DGNet's term, 5 (share - target)^2, instead of a constraint; of the masks of evaluation, as `Budget`'s is."""

    def term(self, network: GatedNetwork, decisions: Decisions, loss: Tensor, progress: float) -> Tensor:
        """The same weight whatever the loss, and whatever came of it so far."""
        share = network.cost(decisions.map(self._without_noise)).ratio.float().mean()
        spent = float(share.detach())
        self.spent = spent if self.spent is None else 0.9 * self.spent + 0.1 * spent
        self.target = self.target_at(progress)
        return 5 * (share - self.target).square()


MEASURE = ("closing.costs", "Costs.measure")
SEQUENCE = ("closing.closing", "order.closing_sequence")
LEAST_SQUARES = ("closing.closing", "reconstruct")
MOMENTS = ("closing.layer", "Layer.make_up")
NOISE = ("learns", "set_noise")

VARIANTS = (
    Variant("closes", CLOSES, "as it is"),
    Variant("not-measured", CLOSES, "order: what closing costs is not measured", parts={MEASURE: not_measured}),
    Variant(
        "information",
        CLOSES,
        "order: Fisher information alone",
        parts={MEASURE: not_measured, SEQUENCE: by_information},
    ),
    Variant("moments", CLOSES, "layers: by moments, without least squares", parts={LEAST_SQUARES: nothing}),
    Variant(
        "not-made-up",
        CLOSES,
        "layers: nothing makes up for what closed",
        parts={LEAST_SQUARES: nothing, MOMENTS: nothing},
    ),
    Variant("not-mixed", CLOSES, "images: none are mixed", {"mix": 0.0}),
    Variant("not-learned", CLOSES, "weights: no steps of gradients", {"lr": 0.0}),
    Variant("teacher", LABELLED, "teacher's answers, no images mixed", {"mix": 0.0}),
    Variant("both", LABELLED, "teacher's answers and labels", {"label_weight": 1.0}),
    Variant(
        "labels", LABELLED, "labels, no teacher", {"label_weight": 1.0}, parts={("run", "distillation"): no_distance}
    ),
    Variant("learns", LEARNS, "noise that fades, equal masks, constraint", LEARNING),
    Variant(
        "paper-masks", LEARNS, "masks: the paper's, in training fewer than in evaluation", LEARNING, {"masks": "paper"}
    ),
    Variant("no-noise", LEARNS, "estimator: threshold, straight through, no noise", {**LEARNING, "noise": 0.0}),
    Variant(
        "all-noise",
        LEARNS,
        "estimator: DGNet's, logistic noise to the end",
        LEARNING,
        parts={NOISE: deciding_by(partial(logistic_straight_through, temperature=2 / 3))},
    ),
    Variant("semhash", LEARNS, "estimator: Improved SemHash", LEARNING, parts={NOISE: deciding_by(semhash)}),
    Variant(
        "smooth-step",
        LEARNS,
        "estimator: CGNet's, closed gates learn from no output",
        LEARNING,
        parts={NOISE: deciding_by(partial(smooth_step, slope=1.0, sparse=True))},
    ),
    Variant(
        "fixed-weight",
        LEARNS,
        "constraint: a fixed weight, 5 (share - due)^2",
        LEARNING,
        parts={("finetune", "Budget"): FixedWeight},
    ),
    Variant(
        "fixed-target",
        LEARNS,
        "constraint: the same, due at once",
        {**LEARNING, "ramp": 0.0, "gate_lr": 0.125},
        parts={("finetune", "Budget"): FixedWeight},
    ),
    Variant("no-order", LEARNS, "order: all gates start alike", {**LEARNING, "order": 0.0}),
)


class Cifar:
    """What a ResNet-20 is trained on and judged by: training images of CIFAR-10, drawn at random."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            images, labels = torch.from_numpy(arrays["train_x"]), torch.from_numpy(arrays["train_y"]).long()
        drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:2500]
        images, labels = images[drawn].permute(0, 3, 1, 2).contiguous(), labels[drawn]
        self.judged, self.labels = images[:500], labels[:500]
        self.training, self.training_labels = images[500:], labels[500:]
        self.calibrated_on = images[500:756]


def run(options: argparse.Namespace, pictures: Pictures | Cifar, variant: Variant) -> None:
    """Run one variant, unless its record is there, and add its row."""
    folder = options.out / f"{options.network}-{options.size}-{options.budget:g}-{options.steps}steps-{variant.name}"
    if (folder / "record.json").is_file():
        return
    print(f"== {variant.group}: {variant.words}", flush=True)
    options.settings, options.method = dict(variant.settings), dict(variant.method)
    with variant.in_place():
        try:
            row, result = trained(
                options, pictures, options.network, options.budget, 0, folder, labelled=variant.group == LABELLED
            )
        except BudgetError as error:
            print(f"no row, since the budget was not reached: {error}", flush=True)
            return
    row = {"variant": variant.name, "group": variant.group, "different": variant.words, **row}
    add_row(TABLE, row)
    (folder / "record.json").write_text(json.dumps({**row, **result.as_data()}, indent=1))


def markdown() -> str:
    """The rows, as tables, one for each group."""
    with TABLE.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    lines = []
    for group in (CLOSES, LABELLED, LEARNS):
        lines += [f"| {group} | answers that stay | KL | accuracy (dense) | MACs |", "|---|---|---|---|---|"]
        for row in rows:
            if row["group"] == group:
                stay, accuracy, dense, share = (
                    f"{100 * float(row[key]):.1f} %" for key in ("agreement", "accuracy", "dense", "share")
                )
                kl = f"{float(row['kl']):.2f}"
                lines.append(f"| {row['different']} | {stay} | {kl} | {accuracy} ({dense}) | {share} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run the variants that have no record yet, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run", help="run the variants that have no record yet")
    add_arguments(command, size=160, threads=1)
    command.add_argument("--cifar", type=Path, metavar="FILE", help="an .npz file; then --images are not needed")
    command.add_argument("--only", nargs="*", default=[variant.name for variant in VARIANTS])
    command.add_argument("--budget", type=float, default=0.8)
    command.add_argument("--steps", type=int, default=160)
    commands.add_parser("table", help="print the records as tables")
    options = parser.parse_args()
    if options.command == "table":
        print(markdown())
        return
    torch.set_num_threads(options.threads)
    options.choose = True
    if options.cifar:
        options.network, options.size, options.batch = "cifar_resnet20", 32, 32
        pictures: Pictures | Cifar = Cifar(options.cifar)
    elif options.images:
        options.network, pictures = "mobilenetv2", Pictures(options)
    else:
        parser.error("run: give --images, or --cifar")
    by_name = {variant.name: variant for variant in VARIANTS}
    for name in options.only:
        run(options, pictures, by_name[name])


if __name__ == "__main__":
    main()
