"""What commands have in common: where they print, and how they show results."""

import json
import logging
import os
import sys
from argparse import ArgumentParser, Namespace, _ActionsContainer
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convgate.analysis import Metrics

__all__ = [
    "DEFAULT_METHOD",
    "MODEL",
    "PRECISIONS",
    "add_data",
    "add_json",
    "add_model_option",
    "add_network_options",
    "add_precision",
    "check_run",
    "is_watched",
    "log_to_stderr",
    "options",
    "precisions_of",
    "show",
    "show_metrics",
]


MODEL = """\
a torchvision name, timm/NAME, a CIFAR backbone (cifar_resnet20, ..), or your own: package.module:function or \
path/to/file.py:Class"""
"""What a model may be named by, for the help."""

PRECISIONS = ("float32", "bf16", "int8")
"""The engine's, without importing it."""

DEFAULT_METHOD = "DualGating"
"""The method of commands that are not told one."""


def add_json(parser: _ActionsContainer) -> None:
    """The option for programs that read the result."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else, to stdout")


def add_model_option(parser: ArgumentParser) -> None:
    """The option for what a model's builder takes."""
    parser.add_argument(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the model's builder, e.g. num_classes=10; may be repeated",
    )


def add_network_options(parser: ArgumentParser) -> None:
    """The options that say how a model given by name is built, gated and fed."""
    add_model_option(parser)
    parser.add_argument("--method", help=f"the gating method, e.g. ChannelGating (default: {DEFAULT_METHOD})")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the method; may be repeated"
    )
    parser.add_argument("--size", type=int, help="height and width of the images (default: the model's, else 224)")


def add_data(parser: ArgumentParser) -> None:
    """The option that says where a recipe's images are."""
    parser.add_argument("--data", metavar="PATH", help="where the images are (default: where the recipe says)")


def add_precision(parser: ArgumentParser) -> None:
    """The option that says in which precisions the engine is measured; see `precisions_of`."""
    parser.add_argument(
        "--precision",
        action="append",
        default=[],
        choices=PRECISIONS,
        help="also measure what the engine answers in this precision; may be repeated. Some training images choose the "
        "scales of int8",
    )


def precisions_of(arguments: Namespace) -> tuple[str, ...]:
    """Those asked for, each once, in order."""
    return tuple(dict.fromkeys(arguments.precision))


def check_run(folder: Path) -> None:
    """Raise `RecipeError`, before torch is imported, for a folder that does not hold a run."""
    from convgate.errors import RecipeError

    if not folder.is_dir():
        raise RecipeError(f"there is no folder {folder}; give the folder of a run")
    if not (folder / "recipe.yaml").is_file():
        raise RecipeError(f"{folder} is not the folder of a run: it has no recipe.yaml")


def options(pairs: Sequence[str]) -> dict[str, object]:
    """What `--option` or `--model-option` collected, values read as YAML.

    Raises `InputError` for what is not NAME=VALUE.
    """
    import yaml

    from convgate.errors import InputError

    found: dict[str, object] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"option {pair}: write it as NAME=VALUE")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"option {pair}: {value} is not a YAML value ({error})") from error
    return found


def log_to_stderr() -> None:
    """Show on stderr what convgate logs: stdout holds the result alone. Only in the first of several processes."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    log = logging.getLogger("convgate")
    log.setLevel(logging.INFO)
    for handler in [h for h in log.handlers if isinstance(h, _Lines)]:
        log.removeHandler(handler)
    log.addHandler(_Lines())


class _Lines(logging.Handler):
    """Prints each record as a line, without breaking it; rich knows how to write beside a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            from rich.console import Console
        except ModuleNotFoundError:  # where .cgm files are run, there may be nothing but NumPy
            sys.stderr.write(f"{record.getMessage()}\n")
            return
        Console(stderr=True, highlight=False).print(record.getMessage(), markup=False, soft_wrap=True)


def is_watched() -> bool:
    """Whether a person watches what is printed to stderr."""
    return sys.stderr.isatty()


def show(result: Any) -> None:
    """Print a result to stdout: a text or a rich renderable, or a mapping as JSON. Texts and JSON need no rich."""
    if isinstance(result, Mapping | str):
        sys.stdout.write(result if isinstance(result, str) else json.dumps(result, indent=2))
        sys.stdout.write("\n")
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a file or a pipe has no width
    console.print(result)


def show_metrics(metrics: "Metrics") -> None:
    """Print a run's metrics as a table."""
    from rich import box
    from rich.table import Table

    dense, gated = metrics.dense, metrics.gated
    table = Table("", f"{metrics.measured} {metrics.metric}", "MACs per image", "share of dense", box=box.SIMPLE_HEAD)
    accuracy = "not known" if dense.accuracy is None else f"{dense.accuracy:.2%}"
    table.add_row("dense", accuracy, f"{dense.macs:,}", "100.0%")
    table.add_row(
        "gated", f"{gated.accuracy:.2%}", f"{round(dense.macs * gated.macs_ratio):,}", f"{gated.macs_ratio:.1%}"
    )
    show(table)
    if (static := metrics.static) is not None:
        show(
            f"each unit fixed at its majority over {static.images:,} training images: {static.accuracy:.2%} at "
            f"{static.macs_ratio:.1%} of the dense MACs; {static.changing:.1%} of the units change from image to image"
        )
    spread = ", ".join(f"{'max' if p == '100' else f'p{p}'} {share:.1%}" for p, share in gated.macs_percentiles.items())
    if (latency := metrics.latency) is not None:
        show(
            f"on the engine, one image at a time: {latency.dense.median_ms:.3f} ms dense, "
            f"{latency.gated.median_ms:.3f} ms gated, {latency.speedup:.2f} times as fast"
        )
    for name, one in metrics.precisions.items():
        before = "" if one.dense_accuracy is None else f"{one.dense_accuracy:.2%} dense, "
        timed = {} if latency is None else latency.precisions.get(name, {})
        times = ", ".join(f"{timed[which].median_ms:.3f} ms {which}" for which in ("dense", "gated") if which in timed)
        show(
            f"on the engine in {name}: {metrics.metric} {before}{one.accuracy:.2%} gated at {one.macs_ratio:.1%} of "
            f"the MACs{times and '; '}{times}"
        )
    show(f"MACs per image, gated: {spread} of dense ({metrics.test_images:,} {metrics.measured} images)")
