"""Write a gated network as a .cgm file, which runs without PyTorch.

The network is a checkpoint (net.safetensors), or the folder that `convgate finetune` or `convgate train` wrote.
How images are prepared and what the classes are called goes with it, if the checkpoint knows.

Examples:
  convgate compile mine/ -o net.cgm
  convgate compile net.safetensors -o net.cgm

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import show

__all__ = ["add_arguments", "run"]

_NAMES = ("net.safetensors", "network.safetensors", "finished.safetensors", "gated.safetensors")


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate compile`."""
    parser.add_argument("source", type=Path, help="a gated network's file, or the folder that it lies in")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .cgm file to write")


def run(arguments: Namespace) -> None:
    """Compile and write."""
    from convgate.checkpoint import load
    from convgate.engine.compile import compile as compile_engine
    from convgate.errors import InputError
    from convgate.gated import gate_weights

    source = arguments.source
    if source.is_dir():
        found = [source / name for name in _NAMES if (source / name).is_file()]
        if not found:
            raise InputError(f"{source} holds none of {', '.join(_NAMES)}; name a gated network's file")
        source = found[0]
    network = load(source)
    engine = compile_engine(network)
    engine.save(arguments.output)
    size = arguments.output.stat().st_size / 1e6
    show(
        f"{arguments.output}: {size:.1f} MB; {gate_weights(network)}. It runs with "
        f"convgate.engine.load({str(arguments.output)!r})"
    )
    if engine.preparation is None:
        show("it does not say how images are prepared; set network.preparation before compiling, for convgate predict")
