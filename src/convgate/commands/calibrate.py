"""Bring a gated network to a share of the MACs, or to milliseconds on this machine.

All gates' logits are shifted by one amount; nothing is trained. The images, a few dozen of those that the network was
trained on, decide what the mean is. For milliseconds, each operation of the engine is timed under drawn masks for some
seconds, and the engine at the end, one image at a time: keep the machine quiet. `--latency` keeps the model of these
times in a file, and uses it where there is one of this engine.

Examples:
  convgate calibrate mine/ --images photos/ --milliseconds 5 -o net-5ms.safetensors
  convgate calibrate net.safetensors --images photos/ --budget 0.4 -o net-40.safetensors
  convgate calibrate mine/ --images photos/ --milliseconds 2 --precision int8 -o net-2ms.cgm

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convgate.commands.console import PRECISIONS, add_json, add_model_option, is_watched, show
from convgate.commands.networks import add_architecture, load_network, network_file
from convgate.commands.photographs import Photographs

if TYPE_CHECKING:
    from convgate.engine import Engine
    from convgate.latency import LatencyModel

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate calibrate`."""
    parser.add_argument("source", type=Path, help="a gated network's file, or the folder that it is in")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the network to write: .safetensors, or .cgm"
    )
    parser.add_argument("--images", nargs="+", required=True, metavar="FOLDER", help="photographs to calibrate on")
    parser.add_argument("--most", type=int, default=200, help="how many of them, at most (default: %(default)s)")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--budget", type=float, metavar="SHARE", help="share of the dense MACs")
    target.add_argument("--milliseconds", type=float, metavar="MS", help="mean time of the engine for one image")
    parser.add_argument("--threads", type=int, help="threads of the engine that is timed (default: one per core)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="its precision, and that of a .cgm file (default: float32); the images choose the scales of int8",
    )
    parser.add_argument("--latency", type=Path, metavar="FILE", help="model of the engine's times, read or written")
    add_architecture(parser)
    add_model_option(parser)
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Calibrate, write the network, print what it came to."""
    _check(arguments)
    source = network_file(arguments.source)
    from convgate.calibration import calibrate
    from convgate.checkpoint import save
    from convgate.engine import Engine
    from convgate.errors import InputError
    from convgate.gated import GatedModel
    from convgate.quantization.precisions import engine_in

    network = load_network(source, arguments)
    if isinstance(network, Engine):
        raise InputError(f"{source} is an engine's program, whose gates cannot be shifted; give the checkpoint")
    given = Photographs.of(network, source, arguments.images, arguments.most)
    # Read once, as the search goes through them often; a detector's are as large as they are.
    images = given if isinstance(network, GatedModel) else list(given)
    how: dict[str, Any] = {"budget": arguments.budget}
    if arguments.milliseconds is not None:
        engine = engine_in(network, arguments.precision, images, threads=arguments.threads)
        how = {"milliseconds": arguments.milliseconds, "engine": engine, "latency": _model(engine, arguments.latency)}
    done = calibrate(network, images, **how)
    if arguments.output.suffix == ".cgm":
        engine_in(network, arguments.precision, images, threads=arguments.threads).save(arguments.output)
    else:
        save(network, arguments.output)
    if done.latency is not None and arguments.latency is not None:
        from convgate.latency import save as save_model

        save_model(done.latency, arguments.latency)
    if arguments.json:
        show(
            {
                "file": str(arguments.output),
                "macs_ratio": done.macs,
                "milliseconds": None if done.latency is None else done.reached,
                "images": done.images,
                "agreement": done.agreement,
            }
        )
        return
    time = "" if done.latency is None else f", {done.reached:.3g} ms"
    same = "" if done.agreement is None else f"; {done.agreement:.1%} of the answers are those with all gates open"
    show(f"{arguments.output}: {done.macs:.1%} of the dense MACs{time}, the mean over {done.images} images{same}")


def _check(arguments: Namespace) -> None:
    from convgate.errors import InputError
    from convgate.files import check_target
    from convgate.preparation.files import images_in

    if arguments.most < 1:
        raise InputError(f"--most {arguments.most}: calibrate on at least 1 image")
    if arguments.output.suffix not in (".safetensors", ".cgm"):
        raise InputError(f"-o {arguments.output}: give a name that ends in .safetensors or .cgm")
    if arguments.milliseconds is None and (arguments.threads is not None or arguments.latency):
        raise InputError("--threads and --latency are about an engine's time: give --milliseconds, too")
    if arguments.milliseconds is None and arguments.precision and arguments.output.suffix != ".cgm":
        raise InputError(
            "--precision is an engine's: give --milliseconds, too, or a name that ends in .cgm; a .safetensors file is "
            "compiled in any precision"
        )
    for path in (arguments.output, arguments.latency):
        if path is not None:
            check_target(path)
    for folder in arguments.images:
        images_in(folder)


def _model(engine: "Engine", path: Path | None) -> "LatencyModel":
    """The model of the file, if there is one; else one that is fitted now, behind a bar."""
    from convgate.latency import fit_latency
    from convgate.latency import load as load_model

    if path is not None and path.exists():
        model = load_model(path)
        model.check_for(engine)
        return model
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True, highlight=False), disable=not is_watched(), transient=True) as bar:
        task = bar.add_task("timing the engine's operations", total=1.0)
        return fit_latency(engine, progress=lambda share: bar.update(task, completed=share))
