"""Draw where a run's network spent its work on test images.

Each row is an image: on the left with the boxes or classes that the network found, on the right how much was computed
for each pixel, light for nothing and dark for as much as the dense network computes.

Examples:
  convgate figure runs/digits-detection --out work.png
  convgate figure runs/digits-detection --images 3 17 --out work.png

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_data, add_json, check_run, show

__all__ = ["add_arguments", "run"]


_SUFFIXES = (".png", ".jpg", ".jpeg")


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate figure`."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a finished run")
    add_data(parser)
    parser.add_argument(
        "--images", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="numbers of test images (default: 0 1 2)"
    )
    parser.add_argument("--out", type=Path, help="PNG or JPEG file to write (default: work.png in the run's folder)")
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Draw, and print where the picture is."""
    check_run(arguments.folder)
    from convgate.errors import InputError

    if arguments.out is not None and arguments.out.suffix.lower() not in _SUFFIXES:
        raise InputError(f"--out {arguments.out}: give a name that ends in {', '.join(_SUFFIXES)}")
    from convgate.runs.run import Run
    from convgate.runs.work import draw_work

    path = arguments.out or arguments.folder / "work.png"
    shares = draw_work(Run.load(arguments.folder, arguments.data), arguments.images, path)
    if arguments.json:
        show({"picture": str(path), "shares": dict(zip(map(str, arguments.images), shares, strict=True))})
        return
    spent = ", ".join(f"{number}: {share:.1%}" for number, share in zip(arguments.images, shares, strict=True))
    show(f"the picture: {path}; of the dense MACs, by image: {spent}")
