"""Simulate a gated network on an accelerator, from what its gates decided for real images.

`record` writes a trace: the decisions for the images of a run's test set, or for your own. `simulate` computes the
cycles by cause, the traffic and the energy that an accelerator needs, for the gated network and for the same network
without gates. Only recording from a run needs PyTorch. `sweep` simulates arrays and memories of several sizes; `export`
writes one image's layers for SCALE-Sim, Timeloop or Accelergy. `rtl` writes the accelerator in SystemVerilog, `verify`
runs a network of 8-bit integers on it. Needs: pip install 'convgate[hardware]', and 'convgate[rtl]' for the last two.

Examples:
  convgate hardware record runs/half --images 1000 --out half.cgt --program half.cgm
  convgate hardware record half.cgm --photos photos/ --out half.cgt
  convgate hardware simulate half.cgm half.cgt --accelerator dgnet-ultra96 --set columns=32
  convgate hardware sweep half.cgm half.cgt --sides 8,16,32,64 --dram 2,4,8,16
  convgate hardware export half.cgm half.cgt --image 17 --format scalesim --out export/
  convgate hardware rtl -o rtl/
  convgate hardware verify int8.cgm --images 2 --set rows=8 --set columns=8

"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from convgate.commands.accelerator import add_actions
from convgate.commands.arrays import images_of
from convgate.commands.console import add_json, options, show

if TYPE_CHECKING:
    import numpy as np

    from convgate.engine import Engine
    from convgate.hardware import Accelerator, Trace
    from convgate.hardware.area import ArrayArea

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate hardware`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")

    record = actions.add_parser("record", help="record what the gates decide for images", allow_abbrev=False)
    record.add_argument("source", type=Path, help="the folder of a finished run, or a .cgm file")
    record.add_argument("--out", type=Path, required=True, metavar="FILE", help="the trace to write (.cgt)")
    record.add_argument("--images", type=int, default=1000, help="how many (default: %(default)s)")
    record.add_argument(
        "--file", type=Path, help="images for a .cgm file: .npy, float32 [N, C, H, W], as it takes them"
    )
    record.add_argument(
        "--photos",
        type=Path,
        nargs="+",
        metavar="PHOTO",
        help="image files, or folders of them, for a .cgm file that says how photographs are prepared",
    )
    record.add_argument("--data", metavar="PATH", help="where a run's images are (default: where its recipe says)")
    record.add_argument("--program", type=Path, metavar="FILE", help="write the run's network here, too (.cgm)")
    add_json(record)
    record.set_defaults(act=_record)

    simulate = actions.add_parser("simulate", help="simulate an accelerator running a trace", allow_abbrev=False)
    _add_simulated(simulate)
    simulate.add_argument("--layers", action="store_true", help="print each step of the network, too")
    simulate.add_argument("--page", type=Path, metavar="FILE", help="write a page of figures, too (.html)")
    _add_area(simulate)
    add_json(simulate)
    simulate.set_defaults(act=_simulate)

    sweep = actions.add_parser("sweep", help="simulate arrays and memories of several sizes", allow_abbrev=False)
    _add_simulated(sweep)
    sweep.add_argument("--sides", default="8,16,32,64", help="rows and columns (default: %(default)s)")
    sweep.add_argument("--dram", default="2,4,8,16", help="bytes per cycle from memory (default: %(default)s)")
    sweep.add_argument("--images", type=int, default=200, help="the trace's first so many (default: %(default)s)")
    sweep.add_argument("--out", type=Path, metavar="FILE", help="write the rows here, too (.csv)")
    sweep.add_argument("--page", type=Path, metavar="FILE", help="write a page of figures, too (.html)")
    _add_area(sweep)
    add_json(sweep)
    sweep.set_defaults(act=_sweep)

    export = actions.add_parser("export", help="write one image's layers for other simulators", allow_abbrev=False)
    _add_simulated(export)
    export.add_argument("--format", required=True, help="scalesim, timeloop or accelergy")
    export.add_argument("--image", type=int, default=0, help="its number in the trace (default: %(default)s)")
    export.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where to write: a new folder, or an empty one"
    )
    add_json(export)
    export.set_defaults(act=_export)
    add_actions(actions)


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


def _add_area(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--area",
        type=Path,
        metavar="FILE",
        help="show on the page what the array takes of a chip: area.json of `rtl --synth`",
    )


def _area(arguments: Namespace, machine: "Accelerator") -> "ArrayArea | None":
    from convgate.errors import InputError
    from convgate.hardware.area import area_of

    if arguments.area is None:
        return None
    if arguments.page is None:
        raise InputError("--area shows areas on a page: give --page, too")
    return area_of(arguments.area, machine.rows, machine.columns)


def _record(arguments: Namespace) -> None:
    import numpy as np

    from convgate.engine import load
    from convgate.errors import InputError
    from convgate.hardware import record

    if arguments.images < 1:
        raise InputError(f"--images is {arguments.images}; at least 1 is needed")
    _refuse_foreign(arguments)
    _check_targets(arguments.out, arguments.program)
    if arguments.source.is_dir():
        trace = _record_run(arguments)
    elif arguments.photos:
        engine = load(arguments.source)
        trace = record(engine, _prepared(engine, arguments.photos, arguments.images))
    elif arguments.file is None:
        raise InputError("a .cgm file comes without images: give --photos or --file, or the folder of a run")
    else:
        images = images_of(arguments.file, arguments.images)
        trace = record(load(arguments.source), (np.asarray(part) for part in _parts(images)))
    trace.save(arguments.out)
    size = arguments.out.stat().st_size / 2**20
    if arguments.json:
        program = None if arguments.program is None else str(arguments.program)
        show({"file": str(arguments.out), "images": trace.images, "gates": len(trace.gates), "program": program})
        return
    show(f"{arguments.out}: {trace.images:,} images, {len(trace.gates)} gates, {size:.2f} MB")


def _check_targets(*paths: Path | None) -> None:
    """Raise `InputError`, before anything is computed, for files that cannot be written."""
    from convgate.files import check_target

    for path in paths:
        if path is not None:
            check_target(path)


def _refuse_foreign(arguments: Namespace) -> None:
    """Raise `InputError` for options that are about another kind of source than the one that was given."""
    from convgate.errors import InputError

    if arguments.source.is_dir():
        if arguments.file is not None or arguments.photos:
            raise InputError(
                f"--file and --photos are images for a .cgm file; of {arguments.source}, the folder of a run, the test "
                "images are recorded: leave them out"
            )
    elif not arguments.source.exists():
        raise InputError(
            f"there is no file and no folder {arguments.source}; give the folder of a finished run, or a .cgm file"
        )
    elif arguments.data is not None or arguments.program is not None:
        raise InputError(
            f"--data and --program are about the folder of a run; {arguments.source} is not a folder: leave them out"
        )
    elif arguments.file is not None and arguments.photos:
        raise InputError("--file and --photos are both images to record: give one of them")


def _parts(images: "np.ndarray") -> "Iterator[np.ndarray]":
    for begin in range(0, len(images), 64):
        yield images[begin : begin + 64]


def _prepared(engine: "Engine", given: list[Path], count: int) -> "Iterator[np.ndarray]":
    """The first photographs, one after another, as the engine takes them."""
    from itertools import islice

    from convgate.errors import CheckpointError
    from convgate.preparation.files import images_in

    preparation = engine.preparation
    if preparation is None:
        raise CheckpointError(
            "the .cgm file does not say how photographs are prepared: give --file with prepared images, or compile a "
            "network that has a `preparation`"
        )
    paths = (path for one in given for path in (images_in(one) if one.is_dir() else [one]))
    for path in islice(paths, count):
        yield preparation.read([path])


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
    from convgate.hardware.fragmentation import fragmentation
    from convgate.hardware.table import layers, summary

    _check_targets(arguments.page)
    machine = _machine(arguments)
    area = _area(arguments, machine)
    program, trace = load_program(arguments.program), load_trace(arguments.trace)
    found = simulate(program, trace, machine)
    groups = fragmentation(program, trace, machine) if arguments.page or arguments.json else ()
    if arguments.page is not None:
        from convgate.hardware.page import write_page

        write_page(arguments.page, found, title=arguments.program.stem, groups=groups, area=area)
    if arguments.json:
        show({**found.as_data(), "groups": [asdict(row) for row in groups]})
        return
    show(summary(found))
    if arguments.layers:
        show("\n" + layers(found))


def _sweep(arguments: Namespace) -> None:
    import csv
    import io

    from convgate.engine.file import load_program
    from convgate.files import write_text
    from convgate.hardware import load_trace
    from convgate.hardware.energy import energy_table
    from convgate.hardware.sweep import as_data, row_of, row_with_settings, settings, sweep
    from convgate.hardware.table import provenance

    _check_targets(arguments.page, arguments.out)
    sides, moved = _numbers("--sides", arguments.sides), _numbers("--dram", arguments.dram)
    trace = load_trace(arguments.trace).part(0, *_numbers("--images", str(arguments.images)))
    machine = _machine(arguments)
    area = _area(arguments, machine)
    found = sweep(load_program(arguments.program), trace, machine, sides, moved)
    rows = [row_of(simulation) for simulation in found]
    if arguments.page is not None:
        from convgate.hardware import simulate
        from convgate.hardware.fragmentation import fragmentation
        from convgate.hardware.page import write_page

        program = load_program(arguments.program)
        whole, groups = simulate(program, trace, machine), fragmentation(program, trace, machine)
        write_page(arguments.page, whole, title=arguments.program.stem, sweep=rows, groups=groups, area=area)
    if arguments.out is not None:
        text = io.StringIO()
        told = [row_with_settings(row, machine, trace.images) for row in rows]
        writer = csv.DictWriter(text, list(told[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(told)
        write_text(arguments.out, text.getvalue())
    if arguments.json:
        show({"images": trace.images, **as_data(machine), "rows": rows})
        return
    show(f"{'array':>9} {'bytes/cycle':>12} {'speed-up':>9} {'of MACs':>8} {'waits for memory':>17}")
    for row in rows:
        array = f"{row['rows']}x{row['columns']}"
        show(
            f"{array:>9} {row['dram_bytes_per_cycle']:>12} {row['speedup']:>9.3f} {row['realised']:>8.1%} "
            f"{row['gated_memory_share']:>17.1%}"
        )
    show(f"{trace.images:,} images; 'of MACs': of the speed-up that the MACs promise ({rows[0]['macs_cut']:.2f})")
    show(f"\n{provenance(settings(machine), energy_table(machine.energy))}")


def _numbers(name: str, text: str) -> list[int]:
    from convgate.errors import InputError

    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"{name} is {text!r}; give whole numbers above 0, with commas between them")
    return [int(part) for part in parts]


def _export(arguments: Namespace) -> None:
    from convgate.engine.file import load_program
    from convgate.files import new_folder, write_text
    from convgate.hardware import load_trace
    from convgate.hardware.export import export

    program, trace = load_program(arguments.program), load_trace(arguments.trace)
    files = export(program, trace, _machine(arguments), arguments.format, arguments.image)
    with new_folder(arguments.out) as folder:
        for name, text in files.items():
            write_text(folder / name, text)
    if arguments.json:
        show({"folder": str(arguments.out), "files": list(files)})
        return
    show(f"{len(files)} files in {arguments.out}")
