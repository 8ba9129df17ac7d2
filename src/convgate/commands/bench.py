"""Time a gated network against the dense one in other engines.

Times PyTorch (eager, compiled, masked), ONNX Runtime, OpenVINO, others where they are installed (zentorch, ncnn, MNN,
ExecuTorch) and convgate's engine (dense and gated) in one process, by turns, on the same images (random ones, or
--images), in float32 and, where they have it, in bfloat16 and int8 (quantised on these images; OpenVINO's by NNCF).
Each engine has the same number of threads. A model given by name has
random weights, and its gates are calibrated to the budget. A checkpoint is timed as it was saved, and without its
gates, too, where `convgate finetune` left pruned.cgm beside it; the network of a run on test images of its own sizes.
Of a detector the convolutional part is timed. Engines that are missing or fail are listed with the reason. The other
engines need: pip install 'convgate[bench]', or 'convgate[runtimes]' for all of them.

Examples:
  convgate bench resnet18 --budget 0.43 --threads 2
  convgate bench runs/demo/network.safetensors --seconds 10
  convgate bench runs/digits-detection --threads 1
  convgate bench mine/net.safetensors --images photos/
  convgate bench mine/net.safetensors --labelled validation/
  convgate bench cifar_resnet20 --only onnxruntime,openvino,engine-gated --json

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from convgate.commands.console import MODEL, add_json, add_network_options, options, show
from convgate.commands.networks import add_architecture

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate bench`."""
    parser.add_argument("model", help=f"{MODEL}; or a checkpoint's path; or the folder of a run")
    add_architecture(parser)
    add_network_options(parser)
    parser.add_argument(
        "--budget",
        "--macs",
        type=float,
        metavar="SHARE",
        help="calibrate to this share of the dense MACs (default: 0.5 if in reach; a checkpoint stays as it is)",
    )
    parser.add_argument("--threads", type=int, help="threads of each engine (default: one per core)")
    parser.add_argument("--batch", type=int, default=1, help="images per call (default: %(default)s)")
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="FOLDER", help="photographs to time on (default: random images)"
    )
    parser.add_argument(
        "--labelled",
        metavar="FOLDER",
        help="photographs in a folder for each class, named as it is or by its number: how many each engine answers "
        "rightly; 64 of them choose scales instead",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=30.0, help="how long to time (default: %(default)s)")
    length.add_argument("--rounds", type=int, help="samples of each engine, instead of a time")
    parser.add_argument(
        "--near",
        type=float,
        metavar="NS",
        help="wait while the threads take longer to share work out, and leave out rounds that ended so: a virtual "
        "machine's cores change places (under 500 where they share a cache; default: all rounds count)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, gates and images (default: %(default)s)")
    parser.add_argument("--only", metavar="NAMES", help="only these engines, separated by commas, as --json names them")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder to write (default: %(default)s)")
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Time, print, and write CSV, JSON and a figure."""
    _check(arguments)
    from rich.console import Console
    from rich.progress import Progress

    from convgate.bench.competitors import choose
    from convgate.bench.report import sentences, table, write
    from convgate.bench.run import bench

    competitors = choose(arguments.only)
    model, given = _model(arguments)
    console = Console(stderr=True, highlight=False)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("timing", total=1.0)
        result = bench(
            model,
            arguments.method,
            arguments.budget,
            options=options(arguments.option),
            architecture=arguments.architecture,
            model_options=options(arguments.model_option),
            competitors=competitors,
            threads=arguments.threads,
            batch=arguments.batch,
            size=arguments.size,
            images=tuple(arguments.images),
            labelled=arguments.labelled,
            given=given,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            near=arguments.near,
            seed=arguments.seed,
            progress=lambda share: bar.update(task, completed=share),
        )
    paths = write(result, arguments.out)
    if arguments.json:
        show(result.as_data())
        return
    show(table(result))
    show(sentences(result))
    show(f"written to {', '.join(str(path) for path in paths)}")


def _model(arguments: Namespace) -> tuple[str, list[Any]]:
    """The model's name or file, and of a run some of its test images, prepared."""
    folder = Path(arguments.model)
    if not folder.is_dir():
        return arguments.model, []
    from convgate.commands.networks import network_file

    file = str(network_file(folder))
    if arguments.images or arguments.labelled or arguments.batch > 1 or not (folder / "recipe.yaml").is_file():
        return file, []
    from convgate.runs.measure import timed_inputs
    from convgate.runs.run import Run
    from convgate.training.parts import build_task

    run = Run.load(folder)
    return file, timed_inputs(run.splits().test, build_task(run.recipe))


def _check(arguments: Namespace) -> None:
    """Answer misspelt names, and a folder that cannot be written, before torch is imported."""
    from convgate.commands.names import check_method, check_model
    from convgate.errors import CheckpointError
    from convgate.files import check_folder

    check_folder(arguments.out)
    path = Path(arguments.model)
    if path.suffix == ".safetensors" and not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    model = arguments.architecture if path.exists() else arguments.model
    if model is not None:
        check_model(model)
    if arguments.method is not None:
        check_method(arguments.method)
    if folders := [*arguments.images, *([arguments.labelled] if arguments.labelled else [])]:
        from convgate.preparation.files import images_in

        for folder in folders:
            images_in(folder)
