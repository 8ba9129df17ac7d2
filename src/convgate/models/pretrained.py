"""Models with the weights that torchvision or timm publishes, fetched and then kept by those libraries."""

from typing import Any

from torch import nn

from convgate.errors import CheckpointError, InputError
from convgate.models.create import OWN, create

__all__ = ["pretrained"]


def pretrained(name: str, **options: Any) -> nn.Module:
    """The model `name` with its published weights: torchvision's first ones for ImageNet, or timm's default.

    Args:
        name: as `create` takes it.
        options: likewise; they must be those of the weights, which have 1000 classes.

    Raises:
        InputError: an unknown name or option, a model of ours, or other classes than the weights have.
        CheckpointError: nothing is published for this model, or it cannot be fetched.

    """
    import timm
    import torchvision

    if name in OWN:
        raise InputError(f"nobody publishes weights of '{name}'; name a file of your own, or train it")
    create(name, **options)  # refuses what does not exist
    try:
        if name.startswith("timm/"):
            return timm.create_model(name.removeprefix("timm/"), pretrained=True, **options)
        published = list(torchvision.models.get_model_weights(name))
        if not published:
            raise CheckpointError(f"torchvision publishes no weights of '{name}'; name a file of your own")
        return torchvision.models.get_model(name, weights=published[0], **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"the published weights of '{name}' cannot be used: {error}") from error
