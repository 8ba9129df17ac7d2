"""Models with the weights that torchvision or timm publishes, fetched and then kept by those libraries."""

from typing import Any

from torch import nn

from convgate.errors import CheckpointError, InputError
from convgate.models.create import create_model
from convgate.models.own import is_place
from convgate.models.registry import registered

__all__ = ["pretrained"]


def pretrained(name: str, **options: Any) -> nn.Module:
    """The model `name` with its published weights: torchvision's first ones for ImageNet, or timm's default.

    Of a registered detector or segmenter with a body of torchvision's, the body has them.

    Args:
        name: a model of torchvision or timm, as `create_model` takes it.
        options: the builder's; they must be those of the weights, which have 1000 classes.

    Raises:
        InputError: an unknown name or option, or a model whose weights nobody publishes.
        CheckpointError: nothing is published for this model, it cannot be fetched, or it does not fit the options.

    """
    if (entry := registered().get(name)) and entry.pretrained is not None:
        model = create_model(name, **options)
        entry.pretrained(model)
        return model
    if entry or is_place(name):
        raise InputError(f"nobody publishes weights of '{name}'; name a file of weights, or train it")
    create_model(name, **options)  # refuses what does not exist
    try:
        if name.startswith("timm/"):
            import timm

            return timm.create_model(name.removeprefix("timm/"), pretrained=True, **options)
        import torchvision

        published = list(torchvision.models.get_model_weights(name))
        if not published:
            raise CheckpointError(f"torchvision publishes no weights of '{name}'; name a file of your own")
        return torchvision.models.get_model(name, weights=published[0], **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"the published weights of '{name}' cannot be used: {error}") from error
