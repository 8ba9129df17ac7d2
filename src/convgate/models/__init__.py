"""Backbones that torchvision and timm lack, and one way to name them all."""

from convgate.models.cifar_mobilenet import CifarMobileNetV1
from convgate.models.cifar_resnet import CifarResNet
from convgate.models.cifar_vgg import CifarVGG16
from convgate.models.create import OWN, ModelSpec, create, identify
from convgate.models.densenet_bc import DenseNetBC
from convgate.models.preact_resnet import PreActResNet
from convgate.models.pretrained import pretrained
from convgate.models.shake_shake import ShakeShake
from convgate.models.widen import count_parameters, widened

__all__ = [
    "OWN",
    "CifarMobileNetV1",
    "CifarResNet",
    "CifarVGG16",
    "DenseNetBC",
    "ModelSpec",
    "PreActResNet",
    "ShakeShake",
    "count_parameters",
    "create",
    "identify",
    "pretrained",
    "widened",
]
