"""The gated network that a command is given: its file, or the folder that it is in; the model that it was made of."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convgate.commands.console import options

if TYPE_CHECKING:
    from convgate.engine import Engine
    from convgate.gated import GatedModel, GatedNetwork

    Network = GatedNetwork | GatedModel | Engine

__all__ = ["add_architecture", "load_network", "network_file"]

_NAMES = ("net.safetensors", "network.safetensors", "finished.safetensors", "gated.safetensors")


def add_architecture(parser: ArgumentParser) -> None:
    """The option that names the model of a checkpoint, which holds no code; `--model-option` goes with it."""
    parser.add_argument(
        "--architecture",
        metavar="MODEL",
        help="the model of a checkpoint, if it is one of your own: package.module:function or path/to/file.py:Class",
    )


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


def load_network(source: Path, arguments: Namespace) -> "Network":
    """The network of a checkpoint, of the model that `--architecture` names if it does; or the engine of a .cgm file.

    Raises `InputError` for an architecture of a .cgm file, and for options of a model that is not named.
    """
    from convgate.engine import load as load_engine
    from convgate.errors import InputError

    chosen: dict[str, Any] = options(arguments.model_option)
    if chosen and not arguments.architecture:
        raise InputError("--model-option is about the model that --architecture names: give that, too")
    if source.suffix == ".cgm":
        if arguments.architecture:
            raise InputError(f"--architecture is for a checkpoint, and {source} holds its own network; leave it out")
        return load_engine(source)
    from convgate.checkpoint import load
    from convgate.models import create_model

    model = create_model(arguments.architecture, **chosen) if arguments.architecture else None
    network: Network = load(source, model)
    return network
