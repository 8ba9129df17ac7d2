"""Models by name: convgate's own, torchvision's, and timm's as `timm/NAME`; and back, from a model to its name."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from convgate.errors import InputError
from convgate.models.cifar_mobilenet import CifarMobileNetV1
from convgate.models.cifar_resnet import CifarResNet
from convgate.models.cifar_vgg import CifarVGG16
from convgate.models.densenet_bc import DenseNetBC
from convgate.models.preact_resnet import PreActResNet
from convgate.models.shake_shake import ShakeShake

__all__ = ["OWN", "ModelSpec", "create", "identify"]

OWN: dict[str, "partial[Any]"] = {
    **{f"cifar_resnet{depth}": partial(CifarResNet, depth=depth, stages=3) for depth in (8, 14, 20, 32, 44, 56, 110)},
    "cifar_resnet18": partial(CifarResNet, depth=18, stages=4),
    **{f"cifar_preact_resnet{depth}": partial(PreActResNet, depth=depth) for depth in (11, 110, 164)},
    **{
        f"cifar_densenet_bc{depth}_{growth}": partial(DenseNetBC, depth=depth, growth=growth)
        for depth, growth in ((100, 12), (250, 24), (190, 40))
    },
    **{f"cifar_shake_shake26_2x{width}d": partial(ShakeShake, depth=26, width=width) for width in (32, 64, 96)},
    "cifar_vgg16": partial(CifarVGG16),
    "cifar_mobilenet_v1": partial(CifarMobileNetV1),
}
"""convgate's own models by name. What a name fixes is no option of it."""

_FOREIGN_OPTIONS = ("num_classes", "in_chans")
# Options that reach torchvision or timm: those that a checkpoint may name without anything being fetched or unpickled.


@dataclass(frozen=True)
class ModelSpec:
    """A model as plain data: its name and the options that its builder takes."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def create(self) -> nn.Module:
        """Build the model, randomly initialised."""
        return create(self.name, **self.options)


def create(name: str, **options: Any) -> nn.Module:
    """A randomly initialised model.

    Args:
        name: one of `OWN`, a torchvision classification model, or "timm/NAME".
        options: what the builder takes; for torchvision and timm `num_classes` (and timm's `in_chans`).

    Raises:
        InputError: an unknown name or option.

    """
    if name in OWN:
        builder: Callable[..., nn.Module] = OWN[name]
        allowed = [p for p in inspect.signature(OWN[name].func).parameters if p not in OWN[name].keywords]
    elif name.startswith("timm/"):
        builder, allowed = _timm_builder(name.removeprefix("timm/")), list(_FOREIGN_OPTIONS)
    else:
        builder, allowed = _torchvision_builder(name), ["num_classes"]
    unknown = [option for option in options if option not in allowed]
    if unknown:
        raise InputError(f"model '{name}' has no option {', '.join(unknown)}; its options are: {', '.join(allowed)}")
    return builder(**options)


def identify(model: nn.Module) -> ModelSpec | None:
    """The name and options that `create` would rebuild `model`'s structure from, or None for a model of one's own.

    A candidate counts only if its layers print alike and its parameters and buffers have the same names and shapes.
    """
    return next((spec for spec in _candidates(model) if _alike(spec, model)), None)


def _candidates(model: nn.Module) -> list[ModelSpec]:
    home = type(model).__module__
    if type(model) in {builder.func for builder in OWN.values()}:
        own: dict[str, Any] = vars(model)["options"]
        return [
            ModelSpec(name, {key: value for key, value in own.items() if key not in builder.keywords})
            for name, builder in OWN.items()
            if builder.func is type(model) and builder.keywords.items() <= own.items()
        ]
    if home.startswith("timm.models."):
        name = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
        classes = getattr(model, "num_classes", None)
        options = {"num_classes": classes, "in_chans": getattr(model, "in_chans", 3)}
        return [ModelSpec(f"timm/{name}", options)] if name and classes is not None else []
    if home.startswith("torchvision.models."):
        import torchvision

        parameters = sum(p.numel() for p in model.parameters())
        widths = [m.out_features for m in model.modules() if isinstance(m, nn.Linear)][-1:]
        names = [n for n in torchvision.models.list_models(module=torchvision.models) if _builder_module(n) == home]
        closest = sorted(names, key=lambda n: abs(_published_parameters(n) - parameters))[:3]
        return [ModelSpec(name, {"num_classes": n} if n != 1000 else {}) for name in closest for n in widths]
    return []


def _alike(spec: ModelSpec, model: nn.Module) -> bool:
    rebuilt = _build_quickly(spec)
    return rebuilt is not None and str(rebuilt) == str(model) and _shapes(rebuilt) == _shapes(model)


def _build_quickly(spec: ModelSpec) -> nn.Module | None:
    try:
        with torch.device("meta"):
            return spec.create()
    except InputError:
        return None
    except NotImplementedError:
        # A builder that computes with tensors (RegNet) needs real ones; the caller's random numbers stay his.
        with torch.random.fork_rng(devices=[]):
            return spec.create()


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _torchvision_builder(name: str) -> Callable[..., nn.Module]:
    import torchvision

    # Classification models only: builders of others may fetch weights of their backbone.
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise InputError(
            f"there is no model '{name}': give one of {', '.join(OWN)}, a torchvision classification model "
            "(resnet18, mobilenet_v2, ..), or timm/NAME"
        )
    builder = torchvision.models.get_model_builder(name)
    # Inception's initialisation takes minutes and warns about it, unless a builder that offers the choice is told.
    class_parameters = inspect.signature(_model_class(builder)).parameters
    return partial(builder, init_weights=False) if "init_weights" in class_parameters else builder


def _model_class(builder: Callable[..., nn.Module]) -> Any:
    return inspect.signature(builder, eval_str=True).return_annotation


def _timm_builder(name: str) -> Callable[..., nn.Module]:
    import timm

    if not timm.is_model(name):
        raise InputError(f"timm has no model '{name}'; timm.list_models() lists them")
    return partial(timm.create_model, name)


def _builder_module(name: str) -> str:
    import torchvision

    return torchvision.models.get_model_builder(name).__module__


def _published_parameters(name: str) -> int:
    import torchvision

    weights = torchvision.models.get_model_weights(name)
    return next((w.meta.get("num_params", 0) for w in weights), 0)
