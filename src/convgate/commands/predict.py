"""Classify photographs with a .cgm file, without PyTorch.

The file says how photographs are prepared and what the classes are called if `convgate finetune` wrote it, or if the
network had a `preparation` when it was compiled. Reading image files needs Pillow: pip install 'convgate[images]'.

Examples:
  convgate predict net.cgm cat.jpg dog.jpg
  convgate predict net.cgm photos/ --top 1 --json

"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convgate.commands.console import add_json, show

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate predict`."""
    parser.add_argument("network", type=Path, metavar="FILE", help="a .cgm file, as convgate finetune or compile write")
    parser.add_argument("photographs", type=Path, nargs="+", metavar="PHOTO", help="image files, or folders of them")
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="how many classes to name (default: %(default)s)"
    )
    parser.add_argument(
        "--precision", choices=("float32", "bf16"), help="run a file of float32 in bf16 (default: as it was written)"
    )
    parser.add_argument("--threads", type=int, help="threads of the engine (default: one per core)")
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Run the network on one photograph after the other."""
    import json

    from convgate.engine import load
    from convgate.errors import CheckpointError, InputError

    if arguments.top < 1:
        raise InputError(f"--top {arguments.top}: name at least 1 class")
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
        top = preparation.top(ran.outputs[0][0], arguments.top)
        found.append({"file": str(path), "top": [{"class": name, "probability": p} for name, p in top]})
        if not arguments.json:
            show(f"{path}: " + ", ".join(f"{name} {p:.1%}" for name, p in top))
    if arguments.json:
        show(json.dumps(found, indent=2))


def _files(given: list[Path]) -> Iterator[Any]:
    from convgate.preparation.files import images_in

    for path in given:
        yield from images_in(path) if path.is_dir() else [path]
