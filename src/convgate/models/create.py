"""Models by name: registered ones, torchvision's, timm's as `timm/NAME`, and users' by the place of their code; and
back, from a model to its name.
"""

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from convgate.errors import ConvgateError, InputError
from convgate.models.names import unknown_model
from convgate.models.own import is_place, model_builder
from convgate.models.registry import ModelInput, registered

__all__ = ["ModelSpec", "create", "create_model", "identify", "input_shape", "model_input", "on_meta"]

_log = logging.getLogger(__name__)

_COMMON = (3, 224, 224)
# Of a model that says nothing of its images: those of ImageNet, as most models take them.
_FOREIGN_OPTIONS = ("num_classes", "in_chans", "pad_type", "drop_rate")
# Options that reach torchvision or timm: those that a checkpoint may name without anything being fetched or unpickled.


@dataclass(frozen=True)
class ModelSpec:
    """A model as plain data, as a file holds it: its name and the options that its builder takes."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def create(self) -> nn.Module:
        """Build the model, randomly initialised. Raises `InputError` as `create_model` does, and for users' code."""
        if is_place(self.name):
            raise InputError(f"'{self.name}' names code, which a file must not run; build the model and give it")
        return create_model(self.name, **self.options)


def create_model(name: str, **options: Any) -> nn.Module:
    """A randomly initialised model.

    Args:
        name: a registered name (see `list_models`), a torchvision classification model, "timm/NAME", or the place of
            your own: "package.module:function" or "path/to/file.py:Class", whose code is run.
        options: what the builder takes; for torchvision and timm `num_classes` (and timm's `in_chans`, `drop_rate`, the
            dropout before the output layer, and `pad_type`, "same" for weights that came from TensorFlow, where a
            model has it).

    Raises:
        InputError: an unknown name or option, or code at that place that fails or does not return a model.

    >>> create_model("cifar_resnet20", num_classes=100).fc.out_features
    100

    """
    entry = registered().get(name)
    if entry is not None:
        builder: Callable[..., nn.Module] = entry.build
        allowed = [p for p in inspect.signature(entry.builder).parameters if p not in entry.fixed]
    elif is_place(name):
        return _build_own(name, options)
    elif name.startswith("timm/"):
        builder, allowed = _timm_builder(name.removeprefix("timm/")), list(_FOREIGN_OPTIONS)
    else:
        builder, allowed = _torchvision_builder(name), ["num_classes"]
    unknown = [option for option in options if option not in allowed]
    if unknown:
        raise _unknown_options(name, unknown, allowed)
    try:
        return builder(**options)
    except (ConvgateError, NotImplementedError, torch.OutOfMemoryError):  # the second on the meta device, see `on_meta`
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        if not options and not isinstance(error, TypeError):
            raise
        # timm's models differ in what they take; torchvision does not check numbers.
        raise InputError(f"model '{name}' cannot be built with the options {dict(options)}: {error}") from error


create = create_model
"""The earlier name of `create_model`."""


def model_input(name: str) -> ModelInput | None:
    """The images that a model takes, where its registration, torchvision or timm says so; else None.

    >>> model_input("inception_v3").shape
    (3, 299, 299)
    """
    entry = registered().get(name)
    if entry is not None:
        return entry.input
    if is_place(name):
        return None
    if name.startswith("timm/"):
        import timm

        _timm_builder(name.removeprefix("timm/"))
        config = timm.get_pretrained_cfg(name.removeprefix("timm/"))
        return None if config is None else ModelInput(config.input_size, config.mean, config.std)
    import torchvision

    _torchvision_builder(name)
    published = next(iter(torchvision.models.get_model_weights(name)), None)
    if published is None:
        return None
    transforms = published.transforms()
    (side,) = transforms.crop_size
    return ModelInput((3, side, side), tuple(transforms.mean), tuple(transforms.std))


def input_shape(name: str, size: int | None = None) -> tuple[int, int, int]:
    """The shape [C, H, W] of a model's images, with height and width `size` if it is given.

    Where nothing is known (`model_input`) it is [3, 224, 224], which is logged as a warning. Raises `InputError` for an
    unknown name and for a size below 1.
    """
    if size is not None and size < 1:
        raise InputError(f"size {size}: images are at least 1 pixel wide")
    known = model_input(name)
    if known is None and size is None:
        _log.warning("%s does not say what images it takes; %s x %s pixels are assumed", name, *_COMMON[1:])
    channels, height, width = known.shape if known else _COMMON
    return (channels, height, width) if size is None else (channels, size, size)


def _build_own(name: str, options: Mapping[str, Any]) -> nn.Module:
    builder = model_builder(name)
    try:
        signature = inspect.signature(builder)
    except ValueError:  # a builder in C has none
        signature = None
    if signature is not None:
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        unknown = [option for option in options if option not in signature.parameters]
        if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise _unknown_options(name, unknown, signature.parameters)
        try:
            signature.bind(**options)
        except TypeError as error:
            raise InputError(f"model '{name}': {error}; give it as an option") from error
    try:
        model = builder(**options)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"model '{name}' cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model '{name}' returns a {type(model).__name__}, not a torch.nn.Module")
    return model


def _unknown_options(name: str, unknown: Iterable[str], allowed: Iterable[str]) -> InputError:
    return InputError(
        f"model '{name}' has no option {', '.join(unknown)}; its options are: {', '.join(allowed) or 'none'}"
    )


def identify(model: nn.Module) -> ModelSpec | None:
    """The name and options that `create` would rebuild `model`'s structure from, or None for a model that has no name.

    A candidate counts only if its layers print the same and its parameters and buffers have the same names and shapes.
    """
    return next((spec for spec in _candidates(model) if _alike(spec, model)), None)


def _candidates(model: nn.Module) -> list[ModelSpec]:
    home = type(model).__module__
    # A class that is imported late is registered by the function that builds it.
    builder = getattr(type(model), "made_by", type(model))
    entries = {name: entry for name, entry in registered().items() if entry.builder is builder}
    if entries:
        own: dict[str, Any] = getattr(model, "options", {})
        return [
            ModelSpec(name, {key: value for key, value in own.items() if key not in entry.fixed})
            for name, entry in entries.items()
            if entry.fixed.items() <= own.items()
        ]
    if home.startswith("timm.models."):
        name = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
        classes = getattr(model, "num_classes", None)
        options = {"num_classes": classes, "in_chans": getattr(model, "in_chans", 3)}
        if not name or classes is None:
            return []
        return [ModelSpec(f"timm/{name}", options | padding) for padding in ({}, {"pad_type": "same"})]
    if home.startswith("torchvision.models."):
        import torchvision

        parameters = sum(p.numel() for p in model.parameters())
        widths = [m.out_features for m in model.modules() if isinstance(m, nn.Linear)][-1:]
        names = [n for n in torchvision.models.list_models(module=torchvision.models) if _builder_module(n) == home]
        closest = sorted(names, key=lambda n: abs(_published_parameters(n) - parameters))[:3]
        return [ModelSpec(name, {"num_classes": n} if n != 1000 else {}) for name in closest for n in widths]
    return []


def _alike(spec: ModelSpec, model: nn.Module) -> bool:
    ours = spec.name in registered()  # which may change; libraries' models do not
    rebuilt = _structure(spec) if ours else _published_structure(spec.name, tuple(sorted(spec.options.items())))
    return rebuilt is not None and rebuilt == (str(model), _shapes(model))


@functools.lru_cache(maxsize=16)
def _published_structure(
    name: str, options: tuple[tuple[str, Any], ...]
) -> tuple[str, dict[str, tuple[int, ...]]] | None:
    return _structure(ModelSpec(name, dict(options)))


def _structure(spec: ModelSpec) -> tuple[str, dict[str, tuple[int, ...]]] | None:
    """What the model of that name prints, and the shapes of its parameters and buffers; None if it cannot be built."""
    try:
        model = on_meta(spec.create)
    except InputError:
        return None
    return str(model), _shapes(model)


def on_meta(build: Callable[[], Any]) -> Any:
    """What `build` makes, without weights where it can; to read shapes off. Leaves the caller's random state alone."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:  # some builders compute with tensors (RegNet), and need real ones
        with torch.random.fork_rng(devices=[]):
            return build()


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _torchvision_builder(name: str) -> Callable[..., nn.Module]:
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        raise unknown_model(name)
    builder = torchvision.models.get_model_builder(name)
    # Inception's initialisation takes minutes and warns about it, unless a builder that offers the choice is told.
    class_parameters = inspect.signature(_model_class(builder)).parameters
    return partial(builder, init_weights=False) if "init_weights" in class_parameters else builder


def _model_class(builder: Callable[..., nn.Module]) -> Any:
    return inspect.signature(builder, eval_str=True).return_annotation


def _timm_builder(name: str) -> Callable[..., nn.Module]:
    import timm

    if not timm.is_model(name):
        raise unknown_model(f"timm/{name}")
    return partial(timm.create_model, name)


def _builder_module(name: str) -> str:
    import torchvision

    return torchvision.models.get_model_builder(name).__module__


def _published_parameters(name: str) -> int:
    import torchvision

    weights = torchvision.models.get_model_weights(name)
    return next((w.meta.get("num_params", 0) for w in weights), 0)
