"""Write a gated network as a .cgm file, which runs without PyTorch.

The network is a checkpoint (net.safetensors), or the folder that `convgate finetune` or `convgate train` wrote.
The file also holds how images are prepared and the names of the classes, if the checkpoint does.

Examples:
  convgate compile mine/ -o net.cgm
  convgate compile net.safetensors -o net.cgm --precision bf16

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_json, show

__all__ = ["add_arguments", "network_file", "run"]

_NAMES = ("net.safetensors", "network.safetensors", "finished.safetensors", "gated.safetensors")


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate compile`."""
    parser.add_argument("source", type=Path, help="a gated network's file, or the folder that it is in")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .cgm file to write")
    parser.add_argument(
        "--precision", choices=("float32", "bf16"), help="what maps and weights are stored as (default: float32)"
    )
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Compile and write."""
    source = network_file(arguments.source)
    from convgate.checkpoint import load
    from convgate.engine.compile import compile as compile_engine
    from convgate.gated import gate_weights

    network = load(source)
    engine = compile_engine(network, precision=arguments.precision)
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
        f"{arguments.output}: {size / 1e6:.1f} MB in {engine.precision}; {gate_weights(network)}. It runs with "
        f"convgate.engine.load({str(arguments.output)!r})"
    )
    if engine.preparation is None:
        show("it does not say how images are prepared; set network.preparation before compiling, for convgate predict")


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
