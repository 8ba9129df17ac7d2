"""What commands have in common: where they print, and how they show results."""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

__all__ = ["add_json", "add_model_options", "add_options", "news", "options", "show", "show_metrics"]


def add_json(parser: ArgumentParser) -> None:
    """The option for programs that read the result."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else, to stdout")


def add_options(parser: ArgumentParser) -> None:
    """The option for those of a method."""
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the method; may be repeated"
    )


def add_model_options(parser: ArgumentParser) -> None:
    """The option for those of a model's builder."""
    parser.add_argument(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the model's builder, e.g. num_classes=10; may be repeated",
    )


def options(pairs: Sequence[str]) -> dict[str, object]:
    """What `add_options` or `add_model_options` collected, values read as YAML.

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


def news() -> tuple[Callable[[str], None], bool]:
    """(what prints a line of progress, whether a person is watching): to stderr; stdout holds the result alone."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    return partial(console.print, markup=False, soft_wrap=True), console.is_terminal


def show(result: Any) -> None:
    """Print a result to stdout: a rich renderable or text as it is, a mapping as JSON."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a file or a pipe has no width of its own
    if isinstance(result, Mapping):
        console.out(json.dumps(result, indent=2))
    elif isinstance(result, str):
        console.print(result, markup=False, soft_wrap=True)
    else:
        console.print(result)


def show_metrics(metrics: Mapping[str, Any]) -> None:
    """Print a run's metrics as a table."""
    from rich import box
    from rich.table import Table

    dense, gated = metrics["dense"], metrics["gated"]
    table = Table("", "test accuracy", "MACs per image", "share of dense", box=box.SIMPLE_HEAD)
    accuracy = "not known" if dense["accuracy"] is None else f"{dense['accuracy']:.2%}"
    table.add_row("dense", accuracy, f"{dense['macs']:,}", "100.0%")
    spent = round(dense["macs"] * gated["macs_ratio"])
    table.add_row("gated", f"{gated['accuracy']:.2%}", f"{spent:,}", f"{gated['macs_ratio']:.1%}")
    show(table)
    spread = ", ".join(f"p{p} {share:.1%}" for p, share in gated["macs_percentiles"].items())
    if latency := metrics.get("latency"):
        show(
            f"on the engine, one image at a time: {latency['dense']['median_ms']:.3f} ms dense, "
            f"{latency['gated']['median_ms']:.3f} ms gated, {latency['speedup']:.2f} times as fast"
        )
    show(f"MACs per image, gated: {spread} of dense ({metrics['test_images']:,} test images)")
