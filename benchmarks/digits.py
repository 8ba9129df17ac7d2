"""What gating is worth to a detector: of a run of `digits-detection`, precision, MACs, times, and where it worked.

    python benchmarks/digits.py RUN [--threads 1 2] [--seconds 60] [--images 0 1]

On the run's test set, dense and gated: COCO's average precision, and the share of the MACs on objects and background.
Then times of the convolutional part: 12 test images drawn at random, sorted by area, in three groups of four (an engine
stays ready for four sizes); within a group all engines take turns in one process, one image at a time. Other engines
are built for each size. Decoding and suppression come on top, the same for all: they are timed by themselves.

Writes results/digits.json, the picture ../results/digits-detection.jpg and the sections of README and docs/measured.md
that are drawn from them. The numbers of the images in the picture are given, not chosen.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import measured
import numpy as np
import torch
from records import quantiles, record

from convgate.analysis.scenes import on_objects
from convgate.bench import bench
from convgate.bench.competitors import choose
from convgate.engine.compile import compile as compile_engine
from convgate.files import write_text
from convgate.runs.evaluate import evaluate_run
from convgate.runs.run import Run
from convgate.runs.work import draw_work
from convgate.training.parts import build_task

ENGINES = "onnxruntime,openvino,openvino-bf16,engine-dense,engine-gated,engine-dense-bf16,engine-gated-bf16"
GROUPS = ("small", "middle", "large")
PICTURE = Path(__file__).parents[1] / "results" / "digits-detection.jpg"


def inputs_by_area(run: Run) -> dict[str, list[Any]]:
    """Name of a group -> four test images as the detector takes them."""
    task, images = build_task(run.recipe), run.splits().test
    some = images.take(4 * len(GROUPS), 0)
    drawn = sorted((some.batch([n])[0] for n in range(len(some))), key=lambda batch: batch[0][0].numel())
    prepared = [task.prepared(some, batch) for batch in drawn]
    return {name: prepared[4 * n : 4 * n + 4] for n, name in enumerate(GROUPS)}


def timed(run: Run, threads: int, seconds: float) -> list[dict[str, Any]]:
    """A comparison of engines for each group of images."""
    found = []
    for name, given in inputs_by_area(run).items():
        print(f"timing {name} images with {threads} thread(s)", flush=True)
        result = bench(
            str(run.folder.network), given=given, threads=threads, seconds=seconds, competitors=choose(ENGINES)
        )
        case = result.as_data()
        case.pop("machine")
        found.append({**case, "group": name, "model": run.recipe.model.name})
    return found


@torch.no_grad()
def whole(run: Run, threads: int) -> dict[str, Any]:
    """Milliseconds of the whole detector with its part on the engine, and of the part alone, over the timed images."""
    detector = run.network().eval()
    engine = compile_engine(detector, threads=threads)
    torch.set_num_threads(threads)
    everything, part = [], []

    def noted(x: np.ndarray) -> Any:
        started = time.perf_counter()
        found = engine(x)
        part.append(time.perf_counter() - started)
        return found

    for given in inputs_by_area(run).values():
        for round_ in range(6):
            for x in given:
                started = time.perf_counter()
                detector.run_on(noted, x)
                everything.append(time.perf_counter() - started)
                if not round_:  # what is made for a size is made in the first round
                    everything.pop(), part.pop()
    return {"threads": threads, "detector": quantiles(everything), "part": quantiles(part)}


def main() -> None:
    """Measure, write the record, the picture and the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each group of images, all engines together")
    parser.add_argument("--images", type=int, nargs="+", default=[0, 1], help="numbers of test images in the picture")
    options = parser.parse_args()

    run = Run.load(options.run)
    task, images, network = build_task(run.recipe), run.splits().test, run.network()
    judged = evaluate_run(run, seconds=0)
    objects = on_objects(network, images, task, limit=100)
    record(
        "digits",
        {
            "recipe": run.recipe.title,
            "epochs": dict(run.recipe.epochs),
            "budget": run.recipe.budget,
            "metric": judged.metric,
            "test_images": judged.test_images,
            "dense": judged.dense.accuracy,
            "gated": judged.gated.accuracy,
            "dense_macs": judged.dense.macs,
            "macs_ratio": judged.gated.macs_ratio,
            "macs_percentiles": dict(judged.gated.macs_percentiles),
            "scores": {name: dict(scores) for name, scores in judged.scores.items()},
            "objects": None if objects is None else vars(objects),
            "cases": [case for threads in options.threads for case in timed(run, threads, options.seconds)],
            "whole": [whole(run, threads) for threads in options.threads],
            "picture": {"images": options.images, "shares": draw_work(run, options.images, PICTURE)},
        },
    )
    for page in measured.PAGES:
        write_text(page, measured.drawn(page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
