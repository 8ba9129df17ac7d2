"""Write a gated network as a .cgm file, which runs without PyTorch.

The network is a checkpoint (net.safetensors), the folder that `convgate finetune` or `convgate train` wrote, or a
.cgm file in float32, of which one in another precision is made.
The file also holds how images are prepared and the names of the classes, if the source does.

Examples:
  convgate compile mine/ -o net.cgm
  convgate compile net.safetensors -o net.cgm --precision bf16
  convgate compile mine/pruned.cgm -o pruned-int8.cgm --precision int8 --images photos/
  convgate compile net.safetensors -o net.cgm --architecture mynets.py:small

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from convgate.commands.console import PRECISIONS, add_json, add_model_option, show
from convgate.commands.networks import add_architecture, load_network, network_file
from convgate.commands.photographs import Photographs

if TYPE_CHECKING:
    from convgate.commands.networks import Network

__all__ = ["add_arguments", "run"]

_MOST = 300
_AT_ONCE = 10


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate compile`."""
    parser.add_argument("source", type=Path, help="a gated network's file, the folder that it is in, or a .cgm file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .cgm file to write")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="what maps and weights are stored as (default: float32, or as a .cgm file has them); int8 needs --images",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="photographs that choose the scales of int8: some hundreds, not those that the network is judged by; of "
        f"more than {_MOST} as many are taken, evenly",
    )
    add_architecture(parser)
    add_model_option(parser)
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Compile and write."""
    source = network_file(arguments.source)
    _check(arguments, source)
    from convgate.gated import GatedModel
    from convgate.quantization.agreement import agreement
    from convgate.quantization.precisions import engine_in

    network = load_network(source, arguments)
    images = None if arguments.images is None else Photographs.of(network, source, [arguments.images], _MOST, _AT_ONCE)
    engine = engine_in(network, arguments.precision, images)
    engine.save(arguments.output)
    same = None
    if images is not None and not isinstance(network, GatedModel):
        same = agreement(engine_in(network, None), engine, images)
    size = arguments.output.stat().st_size
    if arguments.json:
        show(
            {
                "file": str(arguments.output),
                "bytes": size,
                "precision": engine.precision,
                "prepares_images": engine.preparation is not None,
                "agreement": same,
            }
        )
        return
    show(
        f"{arguments.output}: {size / 1e6:.1f} MB in {engine.precision}{_gates_in(network)}. It runs with "
        f"convgate.engine.load({str(arguments.output)!r})"
    )
    if same is not None:
        show(
            f"of the images that chose the scales, {same:.1%} of up to 100 looked at have the same answer as in float32"
        )
    if isinstance(network, GatedModel):
        show(
            "it computes the convolutional part, for images as the model prepares them; model.run_on(engine, images) "
            "is the model with it, and convgate.engine.boxes decodes without PyTorch"
        )
    elif engine.preparation is None:
        show(
            "it does not say how images are prepared, for convgate predict; in Python, set network.preparation before "
            "the network is saved or compiled"
        )


def _check(arguments: Namespace, source: Path) -> None:
    from convgate.errors import InputError
    from convgate.files import check_target

    check_target(arguments.output)
    if arguments.output.suffix.lower() != ".cgm":
        raise InputError(f"-o {arguments.output}: give a name that ends in .cgm")
    if arguments.output.exists() and arguments.output.samefile(source):
        raise InputError(f"-o {arguments.output} is the network itself, which would be replaced; name another file")
    if (arguments.images is None) == (arguments.precision == "int8"):
        raise InputError("--precision int8 and --images go together: the images choose the scales of the integers")


def _gates_in(network: "Network") -> str:
    from convgate.engine import Engine
    from convgate.gated import gate_weights

    return "" if isinstance(network, Engine) else f"; {gate_weights(network)}"
