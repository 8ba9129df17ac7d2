"""Write a gated network as a .cgm file, which runs without PyTorch.

The network is a checkpoint (net.safetensors), the folder that `convgate finetune` or `convgate train` wrote, or a
.cgm file in float32, of which one in another precision is made.
The file also holds how images are prepared and the names of the classes, if the source does.

Examples:
  convgate compile mine/ -o net.cgm
  convgate compile net.safetensors -o net.cgm --precision bf16
  convgate compile mine/pruned.cgm -o pruned-int8.cgm --precision int8 --images photos/

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from convgate.commands.console import add_json, show
from convgate.commands.photographs import Photographs

if TYPE_CHECKING:
    from convgate.engine import Engine
    from convgate.gated import GatedModel, GatedNetwork

    Network = GatedNetwork | GatedModel | Engine

__all__ = ["add_arguments", "network_file", "run"]

_MOST = 300
_AT_ONCE = 10

_NAMES = ("net.safetensors", "network.safetensors", "finished.safetensors", "gated.safetensors")


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate compile`."""
    parser.add_argument("source", type=Path, help="a gated network's file, the folder that it is in, or a .cgm file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .cgm file to write")
    parser.add_argument(
        "--precision",
        choices=("float32", "bf16", "int8"),
        help="what maps and weights are stored as (default: float32); int8 needs --images",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="photographs that choose the scales of int8: some hundreds, not those that the network is judged by; of "
        f"more than {_MOST} as many are taken, evenly",
    )
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Compile and write."""
    source = network_file(arguments.source)
    _check(arguments)
    from convgate.gated import GatedModel
    from convgate.quantization.precisions import engine_in

    network = _load(source)
    images = None if arguments.images is None else Photographs.of(network, source, [arguments.images], _MOST, _AT_ONCE)
    engine = engine_in(network, arguments.precision, images)
    engine.save(arguments.output)
    size = arguments.output.stat().st_size
    if arguments.json:
        show(
            {
                "file": str(arguments.output),
                "bytes": size,
                "precision": engine.precision,
                "prepares_images": engine.preparation is not None,
            }
        )
        return
    show(
        f"{arguments.output}: {size / 1e6:.1f} MB in {engine.precision}{_gates_in(network)}. It runs with "
        f"convgate.engine.load({str(arguments.output)!r})"
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


def _check(arguments: Namespace) -> None:
    from convgate.errors import InputError
    from convgate.files import check_target

    check_target(arguments.output)
    if (arguments.images is None) == (arguments.precision == "int8"):
        raise InputError("--precision int8 and --images go together: the images choose the scales of the integers")


def _load(source: Path) -> "Network":
    """The network, or the engine, of a file."""
    from convgate.engine import load as load_engine

    if source.suffix == ".cgm":
        return load_engine(source)
    from convgate.checkpoint import load

    network: Network = load(source)
    return network


def _gates_in(network: "Network") -> str:
    from convgate.engine import Engine
    from convgate.gated import gate_weights

    return "" if isinstance(network, Engine) else f"; {gate_weights(network)}"


def network_file(source: Path) -> Path:
    """The gated network's file: `source`, or the one that lies in it. Raises `InputError` if there is none."""
    from convgate.errors import InputError

    if source.is_file():
        return source
    if not source.is_dir():
        raise InputError(f"there is no file and no folder {source}; give a gated network's file or its folder")
    found = next((source / name for name in _NAMES if (source / name).is_file()), None)
    if found is None:
        raise InputError(f"the folder {source} has none of {', '.join(_NAMES)}; give a gated network's file")
    return found
