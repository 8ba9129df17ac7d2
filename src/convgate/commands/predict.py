"""Say what is in photographs: with a .cgm file, without PyTorch, or with a run's detector or segmenter.

A .cgm file names classes. It says how photographs are prepared and what the classes are called if `convgate finetune`
wrote it, or if the network had a `preparation` when it was compiled. Reading image files needs Pillow: pip install
'convgate[images]'.

The network of a run finds boxes, or a class for each pixel. With --out each photograph is drawn with them, and beside
it where the work was spent: light for nothing, dark for as much as the dense network computes.

Examples:
  convgate predict net.cgm cat.jpg dog.jpg
  convgate predict net.cgm photos/ --top 1 --json
  convgate predict runs/digits-detection photos/ --out pictures/

"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convgate.commands.console import add_data, add_json, check_run, show

__all__ = ["add_arguments", "run"]

_TOP = 5


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate predict`."""
    parser.add_argument(
        "network",
        type=Path,
        metavar="NETWORK",
        help="a .cgm file, as convgate finetune or compile write; or the folder of a run with boxes or masks",
    )
    parser.add_argument("photographs", type=Path, nargs="+", metavar="PHOTO", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where pictures of a run's answers are written")
    parser.add_argument("--top", type=int, metavar="N", help=f"how many classes to name (default: {_TOP})")
    parser.add_argument(
        "--precision", choices=("float32", "bf16"), help="run a file of float32 in bf16 (default: as it was written)"
    )
    parser.add_argument("--threads", type=int, help="threads of the engine (default: one per core)")
    add_data(parser)
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Run the network on one photograph after the other."""
    _with_run(arguments) if arguments.network.is_dir() else _with_file(arguments)


def _with_run(arguments: Namespace) -> None:
    import json

    from convgate.errors import InputError

    check_run(arguments.network)
    if arguments.out is None:
        raise InputError(f"{arguments.network} is a run: say with --out FOLDER where the pictures go")
    if arguments.top or arguments.precision or arguments.threads:
        raise InputError("--top, --precision and --threads are about .cgm files; leave them out with a run")
    from convgate.runs.run import Run
    from convgate.runs.work import draw_predictions

    run = Run.load(arguments.network, arguments.data)
    found = draw_predictions(run, list(_files(arguments.photographs)), arguments.out)
    if arguments.json:
        show(json.dumps(found, indent=2))
        return
    for one in found:
        boxes = ", ".join(f"{box['class']} {box['score']:.0%}" for box in one.get("boxes", ()))
        pixels = ", ".join(f"{name} {share:.0%}" for name, share in one.get("pixels", {}).items())
        show(
            f"{one['file']}: {boxes or pixels or 'nothing found'}; {one['share']:.1%} of the dense MACs; "
            f"{one['picture']}"
        )


def _with_file(arguments: Namespace) -> None:
    import json

    from convgate.engine import load
    from convgate.errors import CheckpointError, InputError

    if arguments.out is not None or arguments.data is not None:
        raise InputError("--out and --data are about runs; a .cgm file names classes, which are printed")
    number = _TOP if arguments.top is None else arguments.top
    if number < 1:
        raise InputError(f"--top {number}: name at least 1 class")
    engine = load(arguments.network, threads=arguments.threads, precision=arguments.precision)
    preparation = engine.preparation
    if preparation is None:
        raise CheckpointError(
            f"{arguments.network} does not say how photographs are prepared; set network.preparation = "
            "convgate.preparation_of(MODEL), or one of your own, before you compile it"
        )
    found = []
    for path in _files(arguments.photographs):
        ran = engine.run(preparation.read([path]))
        top = preparation.top(ran.outputs[0][0], number)
        found.append({"file": str(path), "top": [{"class": name, "probability": p} for name, p in top]})
        if not arguments.json:
            show(f"{path}: " + ", ".join(f"{name} {p:.1%}" for name, p in top))
    if arguments.json:
        show(json.dumps(found, indent=2))


def _files(given: list[Path]) -> Iterator[Any]:
    from convgate.preparation.files import images_in

    for path in given:
        yield from images_in(path) if path.is_dir() else [path]
