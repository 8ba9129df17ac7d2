"""`convgate hardware rtl` and `convgate hardware verify`: the accelerator in SystemVerilog."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convgate.commands.arrays import images_of
from convgate.commands.console import add_json, options, show

if TYPE_CHECKING:
    import numpy as np

    from convgate.engine.program import Program
    from convgate.hardware import Accelerator
    from convgate.hardware.area import Area
    from convgate.hardware.rtl.verify import Verified

__all__ = ["add_actions"]


def add_actions(actions: Any) -> None:
    """The actions of `convgate hardware` that are about the RTL."""
    rtl = actions.add_parser("rtl", help="write the accelerator in SystemVerilog", allow_abbrev=False)
    rtl.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="where to write the sources")
    rtl.add_argument(
        "--synth",
        action="store_true",
        help="count with yosys what it takes: with and without the index module or partial sums; writes area.json, too",
    )
    rtl.add_argument("--seconds", type=float, default=1800, help="that yosys may take for each (default: %(default)s)")
    _add_machine(rtl)
    add_json(rtl)
    rtl.set_defaults(act=_rtl)

    verify = actions.add_parser("verify", help="compare the RTL with the integers and the cycles", allow_abbrev=False)
    verify.add_argument("program", type=Path, help="a .cgm file of 8-bit integers, see `convgate.quantize`")
    verify.add_argument("--file", type=Path, help="images: .npy, float32 [N, C, H, W] (default: random ones)")
    verify.add_argument("--images", type=int, default=1, help="how many (default: %(default)s)")
    verify.add_argument(
        "--resting", type=int, default=0, metavar="PERCENT", help="of all clocks, the memory does nothing"
    )
    _add_machine(verify)
    add_json(verify)
    verify.set_defaults(act=_verify)


def _add_machine(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--accelerator", default="dgnet-ultra96", metavar="NAME", help="by name, or a YAML file (default: %(default)s)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a field of the accelerator; may be repeated"
    )


def _machine(arguments: Namespace) -> "Accelerator":
    from convgate.hardware import accelerator

    return accelerator(arguments.accelerator, **options(arguments.set))


def _rtl(arguments: Namespace) -> None:
    from convgate.errors import InputError
    from convgate.hardware.rtl import write_sources
    from convgate.hardware.rtl.machine import top_parameters

    if not arguments.seconds > 0:
        raise InputError(f"--seconds is {arguments.seconds:g}; give a number above 0")
    machine = _machine(arguments)
    parameters = top_parameters(machine)
    written = list(write_sources(arguments.out, parameters))
    if not arguments.json:
        show(f"{len(written)} files in {arguments.out}; the top is cg_top, read cg_registers.sv first")
        numbers = ", ".join(f"{name} {number}" for name, number in parameters.items())
        show(f"the defaults of cg_top are those of {machine.name}: {numbers}")
    found = _areas(machine, arguments) if arguments.synth else {}
    if found:
        from convgate.hardware.area import ArrayArea, built_as, write_areas
        from convgate.hardware.rtl.synth import tool

        written.append(arguments.out / "area.json")
        built = built_as(machine)
        write_areas(written[-1], [ArrayArea(machine.rows, machine.columns, found, tool(), machine.name, built)])
    if arguments.json:
        counted = {"areas": {name: asdict(area) for name, area in found.items()}} if found else {}
        show({"files": [str(path) for path in written], "parameters": parameters, **counted})


def _areas(machine: "Accelerator", arguments: Namespace) -> "dict[str, Area]":
    """The areas, each shown as soon as it is found."""
    from convgate.hardware.rtl.synth import areas

    found = {}
    for name, area in areas(machine, arguments.seconds):
        found[name] = area
        if not arguments.json:
            counts = asdict(area)
            if len(found) == 1:
                show(f"\n{machine.rows}x{machine.columns:<24} " + " ".join(f"{field:>12}" for field in counts))
            show(f"{name:<26} " + " ".join(f"{number:>12,}" for number in counts.values()))
    return found


def _verify(arguments: Namespace) -> None:
    from convgate.engine.file import load_program
    from convgate.hardware.rtl import verify

    program = load_program(arguments.program)
    found = verify(program, _images(arguments, program), _machine(arguments), resting=arguments.resting)
    if arguments.json:
        show(_as_data(found))
    else:
        show(_table(found))
    if not found.passed:
        from convgate.errors import ConvgateError

        raise ConvgateError("the RTL differs from the integer reference or from the simulator")


def _images(arguments: Namespace, program: "Program") -> "np.ndarray":
    import numpy as np

    from convgate.errors import InputError

    if arguments.images < 1:
        raise InputError(f"--images is {arguments.images}; at least 1 is needed")
    if not 0 <= arguments.resting <= 99:
        raise InputError(f"--resting is {arguments.resting}; it is from 0 to 99 percent")
    if arguments.file is None:
        shape = program.value(program.inputs[0]).shape
        return np.random.default_rng(0).standard_normal((arguments.images, *shape)).astype(np.float32)
    return images_of(arguments.file, arguments.images)


def _as_data(found: "Verified") -> dict[str, Any]:
    return {
        "passed": found.passed,
        "outputs_equal": found.outputs_equal,
        "images": found.images,
        "counters_compared": found.compared,
        "counters_not_compared": list(found.not_compared),
        "computed_by_host": list(found.host),
        "layers": [
            {
                "image": layer.image, "layer": layer.layer, "wrong_results": layer.wrong, "cycles": layer.cycles,
                "simulated_cycles": layer.simulated, "memory_cycles": layer.memory,
                "differing": {f"{group} {name}": list(pair) for (group, name), pair in layer.differing.items()},
            }
            for layer in found.layers
        ],
    }  # fmt: skip


def _table(found: "Verified") -> str:
    lines = [
        f"{'layer':<24} {'images':>6} {'cycles':>10} {'simulated':>10} {'of memory':>10} {'wrong':>6} {'differing':>9}"
    ]
    for name in dict.fromkeys(layer.layer for layer in found.layers):
        own = [layer for layer in found.layers if layer.layer == name]
        lines.append(
            f"{name:<24} {len(own):>6} {sum(one.cycles for one in own):>10,} {sum(one.simulated for one in own):>10,} "
            f"{sum(one.memory for one in own):>10,} {sum(one.wrong for one in own):>6} "
            f"{sum(len(one.differing) for one in own):>9}"
        )
    lines.append(
        f"{found.images} images on {found.machine.rows}x{found.machine.columns}: outputs "
        f"{'equal' if found.outputs_equal else 'DIFFER'}, {found.compared:,} counters compared with the simulator; "
        "cycles without those of memory, which follow from the harness; gates' heads, and averages, on the host"
    )
    if found.not_compared:
        lines.append(
            f"not compared: {', '.join(found.not_compared)}, since the harness counts those of 64 bytes, and "
            f"dram_burst_bytes is {found.machine.dram_burst_bytes}"
        )
    if found.host:
        lines.append(f"computed by the host, too: {', '.join(found.host)}")
    return "\n".join(lines)
