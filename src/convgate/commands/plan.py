"""Show what a method would gate in a model.

Prints each site (a residual branch or an intermediate feature) with its convolutions, MACs and gates, and each place
that is left alone with the reason.

Examples:
  convgate plan resnet18
  convgate plan timm/mobilenetv3_large_100 --option group=8
  convgate plan cifar_resnet20 --size 32 --json

"""

from argparse import ArgumentParser, Namespace

from convgate.commands.console import add_json, add_options, options, show

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate plan`."""
    parser.add_argument("model", help="a torchvision name, timm/NAME, or a CIFAR backbone (cifar_resnet20, ..)")
    parser.add_argument("--method", default="DualGating", help="the gating method (default: %(default)s)")
    add_options(parser)
    parser.add_argument("--size", type=int, help="height and width of the images (default: 32 for CIFAR, else 224)")
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Print the plan."""
    import torch

    from convgate.errors import InputError
    from convgate.gated import plan
    from convgate.methods import create as create_method
    from convgate.models import OWN
    from convgate.models import create as create_model

    size = arguments.size
    if size is None:
        size = 32 if arguments.model in OWN else 224
    if size < 1:
        raise InputError(f"--size {size}: images are at least 1 pixel wide")
    method = create_method(arguments.method, options(arguments.option))
    planned = plan(create_model(arguments.model), method, torch.zeros(1, 3, size, size))
    show(planned.as_data() if arguments.json else planned)
