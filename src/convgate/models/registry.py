"""Which models there are by name: a decorator enters them, here and in packages of others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from convgate.errors import InputError

__all__ = ["ModelInput", "Registration", "register_model", "registered"]

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class ModelInput:
    """What images a model takes: their shape [C, H, W], and the mean and standard deviation per channel that they are
    normalised with (of values in [0, 1]); None where nothing is known.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Registration:
    """A registered model: what builds it, the options that its name fixes, and the images that it takes.

    `pretrained` puts published weights into a model that was built, where somebody publishes any.
    """

    builder: Callable[..., nn.Module]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    input: ModelInput | None = None
    pretrained: Callable[[Any], None] | None = None

    def build(self, **options: Any) -> nn.Module:
        """The model, randomly initialised."""
        return self.builder(**self.fixed, **options)


_registered: dict[str, Registration] = {}


def register_model(
    name: str,
    *,
    input: ModelInput | None = None,  # noqa: A002 - the field's word
    pretrained: Callable[[Any], None] | None = None,
    **fixed: Any,
) -> Callable[[Builder], Builder]:
    """Enter a model under a name, so that `convgate.models.create_model`, recipes and the command line know it.

    Args:
        name: one that is not taken, without "/" and ":", which stand for timm's models and Python modules.
        input: the images that it takes.
        pretrained: puts published weights into a model that was built.
        fixed: arguments of the builder that the name fixes; they are not options of the model.

    Returns:
        A decorator for a class or function that returns an `nn.Module`; it leaves it unchanged.

    Raises:
        InputError: the name is taken or has a character that is not allowed.

    >>> from convgate.models import create_model, register_model
    >>> @register_model("two_layers")
    ... def two_layers(width=8):
    ...     return nn.Sequential(nn.Conv2d(3, width, 3), nn.Conv2d(width, 10, 3))
    >>> create_model("two_layers", width=4)[0].out_channels
    4
    >>> _ = _registered.pop("two_layers")

    """
    if not name or {*"/:"} & {*name}:
        raise InputError(f"the name '{name}' cannot be registered: names have at least one character and no '/' or ':'")

    def enter(builder: Builder) -> Builder:
        known = _registered.get(name)
        if known and _place(known.builder) != _place(builder):
            raise InputError(f"the name '{name}' is taken by {_place(known.builder)}; choose another")
        _registered[name] = Registration(builder, fixed, input, pretrained)
        return builder

    return enter


def registered() -> Mapping[str, Registration]:
    """Name -> what was registered under it, in the order of registration."""
    return dict(_registered)


def _place(builder: Callable[..., nn.Module]) -> str:
    # By name, so that a module that is loaded again (notebooks do that) may register its models again.
    return f"{builder.__module__}.{builder.__qualname__}"
