"""ResNets of torchvision's as the bodies of detectors and segmenters: their maps, and their published weights."""

from typing import Any

from torch import nn

from convgate.errors import CheckpointError, InputError

__all__ = ["check_body", "dilated", "load_published"]


def check_body(name: str) -> None:
    """Raise `InputError` for another body than a plain ResNet of torchvision's."""
    import torchvision

    known = [model for model in torchvision.models.list_models(module=torchvision.models) if model.startswith("resnet")]
    if name not in known:
        raise InputError(f"body is {name!r}; give one of {', '.join(known)}")


def load_published(body: nn.Module, name: str) -> None:
    """Put torchvision's weights of the ResNet `name`, trained on ImageNet, into a body without its classifier.

    Raises `CheckpointError` where they cannot be fetched.
    """
    import torchvision

    try:
        published: Any = next(iter(torchvision.models.get_model_weights(name)))
        state = published.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"the published weights of '{name}' cannot be fetched: {error}") from error
    own = body.state_dict()
    body.load_state_dict({key: value for key, value in state.items() if key in own})


def dilated(stage: nn.Module, rate: int) -> None:
    """Let a stage of a ResNet keep its input's resolution: strides become 1, and 3x3 kernels reach `rate` apart.

    Yu, Koltun: Multi-Scale Context Aggregation by Dilated Convolutions, 2016.
    """
    for conv in stage.modules():
        if isinstance(conv, nn.Conv2d):
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (rate, rate)
