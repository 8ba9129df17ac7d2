"""The names of all models, and what to say of a name that is unknown."""

from fnmatch import fnmatchcase

from convgate.errors import InputError
from convgate.models.registry import registered
from convgate.suggestions import did_you_mean

__all__ = ["list_models", "unknown_model"]


def list_models(filter: str = "*") -> list[str]:  # noqa: A002 - as timm and torchvision call it
    """Names that `create_model` takes: registered ones (convgate's own), torchvision's, timm's as `timm/NAME`.

    torchvision's are its classification models. A model of your own needs no entry here: name it by its place,
    `package.module:function`. Without timm installed its models are left out.

    Args:
        filter: a pattern with the wildcards of a shell.

    >>> list_models("cifar_resnet1*")
    ['cifar_resnet14', 'cifar_resnet110', 'cifar_resnet18']

    """
    names = [*registered(), *_torchvision_names(), *(f"timm/{name}" for name in _timm_names())]
    return [name for name in names if fnmatchcase(name, filter)]


def unknown_model(name: str) -> InputError:
    """The error for a name that no model has, with the closest names that there are."""
    return InputError(
        f"there is no model '{name}'{did_you_mean(name, list_models(), 3)} convgate.list_models() lists them. Give "
        "the name of a registered or a torchvision classification model, timm/NAME, or the place of your own: "
        "package.module:function or path/to/file.py:Class"
    )


def _torchvision_names() -> list[str]:
    import torchvision

    # Classification models only: builders of others may fetch weights of their backbone.
    return torchvision.models.list_models(module=torchvision.models)


def _timm_names() -> list[str]:
    try:
        import timm
    except ModuleNotFoundError:
        return []
    return timm.list_models()
