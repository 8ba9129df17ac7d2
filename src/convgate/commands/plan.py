"""Show what a method would gate in a model.

Prints each site (a residual branch or an intermediate feature) with its convolutions, MACs and gates, and everything
that is left ungated, with the reason.

Examples:
  convgate plan resnet18
  convgate plan timm/mobilenetv3_large_100 --option group=8
  convgate plan cifar_resnet20 --json
  convgate plan mypackage.models:small --model-option width=32 --size 128

"""

from argparse import ArgumentParser, Namespace

from convgate.commands.console import DEFAULT_METHOD, MODEL, add_json, add_network_options, options, show

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate plan`."""
    parser.add_argument("model", help=MODEL)
    add_network_options(parser)
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Print the plan."""
    from convgate.commands.names import check_method, check_model

    chosen = arguments.method or DEFAULT_METHOD
    check_model(arguments.model)
    check_method(chosen)
    import torch

    from convgate.gated import plan
    from convgate.methods import create_method
    from convgate.models import create_model, input_shape

    method = create_method(chosen, options(arguments.option))
    model = create_model(arguments.model, **options(arguments.model_option))
    example = torch.zeros(1).expand(1, *input_shape(arguments.model, arguments.size))
    planned = plan(model, method, example)
    show(planned.as_data() if arguments.json else planned)
