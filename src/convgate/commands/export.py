"""Write a compiled network as an ONNX file, for other runtimes.

The network is a .cgm file, as `convgate compile` writes it. The ONNX file computes everything and multiplies what
gates close by zero: it gives the same results, and saves no work. A network of 8-bit integers is written with
QuantizeLinear and DequantizeLinear. Needs the package onnx: pip install 'convgate[onnx]'.

Examples:
  convgate export net.cgm net.onnx
  convgate export net.cgm net.onnx --masks

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_json, show

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate export`."""
    parser.add_argument("network", type=Path, help="the .cgm file of a network")
    parser.add_argument("output", type=Path, help="the .onnx file to write")
    parser.add_argument("--masks", action="store_true", help="give the gates' decisions as outputs, too")
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Read, export, and say what was written."""
    from convgate.errors import InputError
    from convgate.files import check_target

    check_target(arguments.output)
    if arguments.output.suffix.lower() != ".onnx":
        raise InputError(f"{arguments.output}: give a name that ends in .onnx")
    from convgate.engine.file import load_program
    from convgate.engine.precision import precision_of
    from convgate.onnx_export import export_onnx

    program = load_program(arguments.network)
    export_onnx(program, arguments.output, masks=arguments.masks)
    size, precision = arguments.output.stat().st_size, precision_of(program)
    if arguments.json:
        show({"file": str(arguments.output), "bytes": size, "precision": precision, "gates": len(program.gates)})
        return
    first = program.value(program.inputs[0])
    show(
        f"{arguments.output}: {size / 1e6:.1f} MB, from a network in {precision}; it takes images of "
        f"{first.channels} x {first.height} x {first.width}, any number at once"
    )
