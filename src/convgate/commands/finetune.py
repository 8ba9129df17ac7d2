"""Make a trained network cheaper with photographs of yours, keeping its answers.

Gates the network, trains it to keep to the budget and to answer as it did, and measures on held-out photographs how
many of its answers were kept. The budget is not exceeded: by default whole channels are closed, in a small network up
to a few percent more than need be; gates that look at the image are calibrated to the budget, within 0.5 %. No labels
are needed; if there are any, accuracies are reported, too. The folder then holds net.safetensors (the checkpoint),
net.cgm (for `convgate predict`, without PyTorch), where the gates decide the same for every image pruned.cgm (the same
without gates, and faster: take it for production), report.html and result.json. To resume a run that was killed, give
the same command again.

Labels are names: class folders are named after the network's classes, their ImageNet codes (n01440764), or the numbers
of the outputs. Or --labels names a CSV file with the columns file and label. Names that match no output are refused.

The exit status is 2 if an argument is wrong, if the budget was not reached, or if fewer answers are kept than --keep
asks for. If answers were lost, the files are written all the same. If the budget was not reached, the trained weights
are kept, and the same command continues from them.

Examples:
  convgate finetune resnet50 --weights resnet50.safetensors --images photos/ --budget 0.8 --minutes 30 -o mine
  convgate finetune timm/mobilenetv2_100 --weights published --images a/ b/ --held-out c/ --budget 0.7 -o mine
  convgate finetune mynets.py:small --weights small.pt --like resnet50 --images photos/ --classes names.txt -o mine

"""

import logging
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convgate.commands.console import DEFAULT_METHOD, MODEL, add_json, add_network_options, is_watched, options, show

if TYPE_CHECKING:
    from convgate.finetuning import Finetuned
    from convgate.finetuning.request import Request

__all__ = ["add_arguments", "run"]

_LOG = logging.getLogger(__name__)
_FILES = ("net.safetensors", "net.cgm", "pruned.cgm", "report.html", "result.json", "state.pt")


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate finetune`."""
    parser.add_argument("model", help=MODEL)
    add_network_options(parser)
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help='the trained weights, or "published" for those of torchvision or timm; may be left out where a model of '
        "your own comes trained",
    )
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="replace this prefix of the weights' names, e.g. linear.=fc.; may be repeated",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="images to train on, directly in the folder or in one subfolder per class",
    )
    parser.add_argument(
        "--held-out",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="images to evaluate on (default: a fifth of the images)",
    )
    parser.add_argument(
        "--labels",
        default="auto",
        metavar="auto|folders|none|CSV",
        help="where labels come from (default: the folders' names, if all images are in class folders)",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="names of the network's outputs, one per line, in order (default: as torchvision or timm names them)",
    )
    parser.add_argument("--budget", type=float, default=0.8, help="share of the dense MACs (default: %(default)s)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=30.0, help="how long to train (default: %(default)s)")
    length.add_argument(
        "--steps", type=int, help="how many steps to train instead; then the result can be repeated exactly"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--fresh", action="store_true", help="start again: delete what a run left in the folder")
    parser.add_argument(
        "--keep", type=float, default=0.8, help="fail if a smaller share of the answers is kept (default: %(default)s)"
    )
    parser.add_argument("--batch", type=int, default=24, help="images in a step (default: %(default)s)")
    parser.add_argument(
        "--most",
        type=int,
        default=5000,
        help="train on at most this many images, chosen at random (default: %(default)s)",
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be read as images")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")
    add_json(parser)
    prepared = parser.add_argument_group(
        "how images are prepared (default: as torchvision or timm states for the model)"
    )
    prepared.add_argument("--like", metavar="MODEL", help="as for this model")
    prepared.add_argument(
        "--resize",
        type=_side,
        metavar="N|whole",
        help="scale the shorter side to N first, or the whole image to the size",
    )
    prepared.add_argument("--interpolation", help="nearest, bilinear, bicubic or lanczos")
    prepared.add_argument("--mean", type=_numbers, metavar="R,G,B", help="subtracted from values in [0, 1]")
    prepared.add_argument("--std", type=_numbers, metavar="R,G,B", help="what the difference is divided by")
    parser.set_defaults(resumes=True)


def run(arguments: Namespace) -> None:
    """Read and check, train, write, and say what came of it."""
    import json

    from convgate.errors import BudgetError

    _check(arguments)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from convgate.calibration.price import Macs
    from convgate.finetuning.session import session

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        TextColumn("{task.percentage:3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not is_watched(), transient=True) as bars:
        task = bars.add_task("reading images", total=1.0)
        ready = session(_request(arguments), _LOG.info, lambda share: bars.update(task, completed=share))
        watch = _Watch(bars, task)
        length = {"steps": arguments.steps} if arguments.steps else {"minutes": arguments.minutes}
        Macs(ready.network).check(arguments.budget)  # before anything is deleted
        _discard(arguments)
        try:
            result = ready.run(
                arguments.budget, out=arguments.out, keep=arguments.keep, say=_LOG.info, watch=watch, **length
            )
        except BudgetError:
            if (arguments.out / "report.html").is_file():
                _LOG.info("what there is has been written to %s", arguments.out)
            raise
    if arguments.json:
        show(json.loads((arguments.out / "result.json").read_text()))
    else:
        show(_summary(result, arguments.out))


class _Watch:
    """A progress bar with the share of the MACs, and how far the answers are from the dense network's: moving means."""

    def __init__(self, bars: Any, task: Any) -> None:
        self.bars, self.task = bars, task
        self.means: dict[str, float] = {}

    def __call__(self, terms: Any) -> None:
        for key in ("agreement", "kl", "accuracy"):
            if key in terms:
                self.means[key] = 0.9 * self.means.get(key, terms[key]) + 0.1 * terms[key]
        words = (
            f"{terms['share']:.1%} of the MACs (due {terms['due']:.1%}), {self.means['agreement']:.0%} of the answers, "
        )
        words += f"KL {self.means['kl']:.2f}"
        if "accuracy" in self.means:
            words += f", accuracy {self.means['accuracy']:.0%}"
        self.bars.update(self.task, completed=terms["progress"], description=words)


def _summary(result: "Finetuned", out: Path) -> str:
    kept = ", ".join(
        f"{wanted:.0%} {'at no budget tried' if share is None else f'from {share:.1%}'}"
        for wanted, share in result.kept.items()
    )
    files = ", ".join(name for name in _FILES if (out / name).is_file())
    how = "as the network came down" if result.on_the_way else "by calibration alone"
    judged = f", on {result.curve[0].images} of these images" if result.curve else ""
    return (
        f"before: {result.before}\nafter: {result.after}, on {result.after.images} images that were not trained on\n"
        f"answers that stay {how}, from which share of the MACs on{judged}: {kept}\n"
        f"in {out}: {files}"
    )


def _request(arguments: Namespace) -> "Request":
    from convgate.finetuning.request import Request

    prepared = {name: getattr(arguments, name) for name in ("size", "resize", "interpolation", "mean", "std")}
    return Request(
        model=arguments.model,
        images=tuple(arguments.images),
        weights=arguments.weights,
        rename=_renaming(arguments.rename),
        held_out=tuple(arguments.held_out),
        labels=arguments.labels,
        classes=arguments.classes,
        like=arguments.like,
        preparation=prepared,
        method=arguments.method or DEFAULT_METHOD,
        options=options(arguments.option),
        model_options=options(arguments.model_option),
        batch=arguments.batch,
        most=arguments.most,
        skip_unreadable=arguments.skip_unreadable,
        seed=arguments.seed,
    )


def _check(arguments: Namespace) -> None:
    """What can be seen without PyTorch is seen first, since that takes seconds to import."""
    from convgate.commands.names import check_method, check_model
    from convgate.errors import CheckpointError, InputError
    from convgate.files import check_folder
    from convgate.preparation.files import images_in

    check_model(arguments.model)
    check_method(arguments.method or DEFAULT_METHOD)
    if _renaming(arguments.rename) and arguments.weights is None:
        raise InputError("--rename is about the names in a file of weights; name the file with --weights")
    if not 0 < arguments.budget <= 1:
        raise InputError(f"--budget {arguments.budget:g}: it is a share of the dense MACs, in (0, 1]")
    if not 0 <= arguments.keep <= 1:
        raise InputError(f"--keep {arguments.keep:g}: it is a share of the answers, in [0, 1]")
    if not 0 < arguments.minutes < float("inf"):
        raise InputError(f"--minutes {arguments.minutes:g}: it is a number above 0")
    for name, least in (("steps", 1), ("batch", 2), ("most", 20), ("size", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise InputError(f"--{name} {value}: give at least {least}")
    for folder in (*arguments.images, *arguments.held_out):
        images_in(folder)
    weights = arguments.weights
    if weights not in (None, "published") and not Path(weights).is_file():
        raise CheckpointError(f"there is no file of weights {weights}; give one, or published")
    out = arguments.out
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder to write")
    check_folder(out)
    theirs = [out / name for name in _FILES if (out / name).is_file()]
    if weights not in (None, "published") and any(path.samefile(weights) for path in theirs):
        raise InputError(f"{weights} would be replaced by the gated network: name another folder than {out}")
    if theirs and not any((out / name).is_file() for name in ("result.json", "state.pt")):
        raise InputError(
            f"{theirs[0]} would be replaced, and it is not a finetuning's, which leaves result.json beside it; name "
            "another folder"
        )
    if (out / "result.json").is_file() and not (out / "state.pt").is_file() and not arguments.fresh:
        raise InputError(f"{out} holds a finished run; name another folder, or start again with --fresh")


def _discard(arguments: Namespace) -> None:
    if arguments.fresh:
        for name in _FILES:
            (arguments.out / name).unlink(missing_ok=True)


def _renaming(pairs: list[str]) -> dict[str, str]:
    from convgate.errors import InputError

    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"--rename {pair}: write it as OLD=NEW, linear.=fc. for example")
    return dict(pair.split("=", 1) for pair in pairs)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r}: write numbers with commas between them, 0.5,0.5,0.5") from None


def _side(text: str) -> int | str:
    if text == "whole":
        return text
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r}: give a number of pixels, or whole") from None
