"""What masks dilated by the kernels' reach cost a detector, and what they bring: of a run of `digits-detection`.

    python benchmarks/dilated.py RUN [--images 100] [--maps 20] [--calibration 24]

The run's gates decide; only what they close is computed in another way:

- with the weights of the run, which were trained with zeros at the rims of open tiles (`masks: equal`): as trained;
  dilated; dilated and calibrated anew to the run's budget;
- with the weights of the network before gating, which know no zeros: with zeros, and dilated, under the same decisions.

Average precision over the first `--images` test images and the share of the MACs. Over the first `--maps`, how far the
detector's maps are from those that the same weights compute everywhere, as a share of these (root of the sums of
squares), by where a position lies in the last gated branch: in an open tile at most 2 positions from a closed one,
deeper in open tiles, in a closed tile. Writes results/dilated.json.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import record
from torch import Tensor
from torch.utils import _pytree as pytree

import convgate
from convgate.gated import GatedModel
from convgate.gating import Decisions, Tiles, dilate, expand_tiles
from convgate.methods import create as create_method
from convgate.runs.measure import calibration_images
from convgate.runs.run import Run
from convgate.training.parts import build_task

RIM = 2


def one_by_one(task: Any, images: Any, count: int) -> Iterator[tuple[Any, Any]]:
    """(what the detector takes, targets) of the first images of a set."""
    for number in range(min(count, len(images))):
        batch, targets = images.batch([number])
        yield task.prepared(images, batch), targets


def answers(detector: GatedModel, x: Any, part: Callable[[Tensor], Any]) -> tuple[Any, list[Tensor]]:
    """What the detector finds where `part` computes its maps, and these."""
    maps: list[Tensor] = []

    def noted(images: np.ndarray) -> Any:
        found = part(torch.from_numpy(images))
        maps.extend(pytree.tree_leaves(found))
        return pytree.tree_map(lambda t: t.numpy(), found)

    return detector.run_on(noted, x), maps


def places(detector: GatedModel, decisions: Decisions, positions: int) -> Mapping[str, Tensor]:
    """Which of so many positions lie where; bool [positions]."""
    name = next(reversed(list(decisions.of_kind(Tiles))))
    on = next(layer for layer in reversed(detector.network.ledger_at(decisions.size).layers) if layer.positions == name)
    assert on.size[0] * on.size[1] == positions
    open_ = expand_tiles(decisions[name].mask, on.size)
    near = dilate(1 - open_, (RIM, RIM)).bool() & open_.bool()
    found = {"rim": near, "inside": open_.bool() & ~near, "closed": ~open_.bool()}
    return {where: mask.flatten() for where, mask in found.items()}


@torch.no_grad()
def measured(detector: GatedModel, decide: GatedModel, task: Any, images: Any, count: int, maps: int) -> dict[str, Any]:
    """Precision, MACs and distances of `detector` under the decisions of `decide`."""
    judge, shares = task.judge(images.classes), []
    squares = {where: np.zeros(2) for where in ("rim", "inside", "closed")}
    network = detector.network
    for number, (x, targets) in enumerate(one_by_one(task, images, count)):
        _, decisions = decide.decide(x)
        cost = network.cost(decisions)
        shares.append(float(cost.macs[0]) / cost.dense)
        found, ours = answers(detector, x, lambda y, d=decisions: network.replay(y, d))
        judge.add(found, targets)
        if number < maps:
            opened = network.open_decisions(1, decisions.size)
            _, theirs = answers(detector, x, lambda y, d=opened: network.replay(y, d))
            for a, b in zip(ours, theirs, strict=True):
                rows_a, rows_b = (
                    t.reshape(1, -1, t.shape[-1])[0] if t.dim() == 3 else t[0].flatten(1).T for t in (a, b)
                )
                for where, chosen in places(detector, decisions, len(rows_a)).items():
                    squares[where] += (
                        float((rows_a - rows_b)[chosen].square().sum()),
                        float(rows_b[chosen].square().sum()),
                    )
    scores = judge.scores()
    distances = {where: float(np.sqrt(off / max(all_, 1e-30))) for where, (off, all_) in squares.items()}
    return {
        "AP50": scores["AP50"],
        "AP": scores["AP"],
        "macs_ratio": float(np.mean(shares)),
        "distance": distances,
    }


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--maps", type=int, default=20)
    parser.add_argument("--calibration", type=int, default=24, help="training images for the new calibration; 0: none")
    options = parser.parse_args()

    run = Run.load(options.run)
    splits, task, trained = run.splits(), build_task(run.recipe), run.network().eval()
    method = create_method(run.recipe.method.name, run.recipe.method.options)
    example = next(one_by_one(task, splits.test, 1))[0]

    def variant(dilated: bool, weights: Mapping[str, Tensor] | None = None) -> GatedModel:
        net = convgate.gate(trained.dense(), replace(method, dilated=dilated), example).eval()
        net.load_state_dict({**trained.state_dict(), **(weights or {})})
        return net

    dense = run.dense_network()
    assert dense is not None
    before = dense.state_dict()

    def calibrated() -> GatedModel:
        again, some = variant(True), calibration_images(run.recipe, splits)
        batches = [x for x, _ in one_by_one(task, some, options.calibration)]
        convgate.calibrate(again, batches, budget=run.recipe.budget)
        return again

    rows: dict[str, Callable[[], GatedModel]] = {
        "as trained, zeros at rims": lambda: trained,
        "as trained, dilated": lambda: variant(True),
        "before gating, zeros at rims": lambda: variant(False, before),
        "before gating, dilated": lambda: variant(True, before),
    }
    if options.calibration:
        rows["as trained, dilated, calibrated anew"] = calibrated
    found = {}
    for name, make in rows.items():
        detector = make()
        decide = detector if make is calibrated else trained
        found[name] = measured(detector, decide, task, splits.test, options.images, options.maps)
        print(name, found[name], flush=True)
    record("dilated", {"recipe": run.recipe.title, "images": options.images, "maps": options.maps, "rows": found})


if __name__ == "__main__":
    main()
