"""Simulate a gated network on an accelerator, from what its gates decided for real images.

`record` notes the decisions for images, of a run's test set or from a file; `simulate` says what a machine makes of
them: cycles by cause, traffic, energy, for the gated network and for the same without gates. Only recording from a run
needs PyTorch. Needs: pip install 'convgate[hardware]'.

Examples:
  convgate hardware record runs/half --images 1000 --out half.cgt --program half.cgm
  convgate hardware record half.cgm --file images.npy --out half.cgt
  convgate hardware simulate half.cgm half.cgt --accelerator dgnet-ultra96 --set columns=32

"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from convgate.commands.console import add_json, options, show

if TYPE_CHECKING:
    import numpy as np

    from convgate.hardware import Accelerator, Trace

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate hardware`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")

    record = actions.add_parser("record", help="note what the gates decide for images", allow_abbrev=False)
    record.add_argument("source", type=Path, help="the folder of a finished run, or a .cgm file")
    record.add_argument("--out", type=Path, required=True, metavar="FILE", help="the trace to write (.cgt)")
    record.add_argument("--images", type=int, default=1000, help="how many (default: %(default)s)")
    record.add_argument(
        "--file", type=Path, help="images for a .cgm file: .npy, float32 [N, C, H, W], as it takes them"
    )
    record.add_argument("--data", metavar="PATH", help="where a run's images are (default: where its recipe says)")
    record.add_argument("--program", type=Path, metavar="FILE", help="write the run's network here, too (.cgm)")
    record.set_defaults(act=_record)

    simulate = actions.add_parser("simulate", help="what an accelerator makes of a trace", allow_abbrev=False)
    _add_simulated(simulate)
    simulate.add_argument("--layers", action="store_true", help="print each step of the network, too")
    add_json(simulate)
    simulate.set_defaults(act=_simulate)


def run(arguments: Namespace) -> None:
    """Do what was asked for."""
    arguments.act(arguments)


def _add_simulated(parser: ArgumentParser) -> None:
    parser.add_argument("program", type=Path, help="the network's .cgm file")
    parser.add_argument("trace", type=Path, help="decisions of its gates, see `convgate hardware record`")
    parser.add_argument(
        "--accelerator", default="dgnet-ultra96", metavar="NAME", help="by name, or a YAML file (default: %(default)s)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a field of the accelerator; may be repeated"
    )


def _record(arguments: Namespace) -> None:
    import numpy as np

    from convgate.engine import load
    from convgate.errors import InputError
    from convgate.hardware import record

    if arguments.images < 1:
        raise InputError(f"--images is {arguments.images}; at least 1 is needed")
    if arguments.source.is_dir():
        trace = _record_run(arguments)
    else:
        if arguments.file is None:
            raise InputError("a .cgm file comes without images: give --file images.npy, or the folder of a run")
        try:
            images = np.load(arguments.file, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise InputError(f"{arguments.file} is not a .npy file of numbers: {error}") from error
        trace = record(load(arguments.source), (np.asarray(part) for part in _parts(images[: arguments.images])))
    trace.save(arguments.out)
    size = arguments.out.stat().st_size / 2**20
    show(f"{arguments.out}: {trace.images:,} images, {len(trace.gates)} gates, {size:.2f} MB")


def _parts(images: "np.ndarray") -> "Iterator[np.ndarray]":
    for begin in range(0, len(images), 64):
        yield images[begin : begin + 64]


def _record_run(arguments: Namespace) -> "Trace":
    """The trace of a run's first test images, which its network is not chosen by."""
    import torch

    from convgate.engine.compile import compile as compile_engine
    from convgate.hardware import record
    from convgate.runs.run import Run

    finished = Run.load(arguments.source, arguments.data)
    engine = compile_engine(finished.network())
    if arguments.program is not None:
        engine.save(arguments.program)
    images = finished.splits().test
    count = min(arguments.images, len(images))
    numbers = torch.arange(count).split(64)
    batches = (images.prepared(images.at(some)).numpy() for some in numbers)
    return record(engine, batches, labels=images.labels[:count].cpu().numpy())


def _machine(arguments: Namespace) -> "Accelerator":
    from convgate.hardware import accelerator

    return accelerator(arguments.accelerator, **options(arguments.set))


def _simulate(arguments: Namespace) -> None:
    from convgate.engine.file import load_program
    from convgate.hardware import load_trace, simulate
    from convgate.hardware.table import layers, summary

    found = simulate(load_program(arguments.program), load_trace(arguments.trace), _machine(arguments))
    if arguments.json:
        show(found.as_data())
        return
    show(summary(found))
    if arguments.layers:
        show("\n" + layers(found))
