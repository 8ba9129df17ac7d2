"""Backbones that torchvision and timm lack, and one way to name them all."""

from convgate.models.cifar_mobilenet import CifarMobileNetV1
from convgate.models.cifar_resnet import CifarResNet
from convgate.models.cifar_vgg import CifarVGG16
from convgate.models.create import ModelSpec, create, create_model, identify, input_shape, model_input
from convgate.models.densenet_bc import DenseNetBC
from convgate.models.names import list_models
from convgate.models.point_detector import point_detector
from convgate.models.preact_resnet import PreActResNet
from convgate.models.preparation import preparation_of, prepared_at, synsets
from convgate.models.pretrained import pretrained
from convgate.models.pspnet import PSPNet
from convgate.models.pyramid_detectors import faster_rcnn, retinanet
from convgate.models.registry import ModelInput, Registration, register_model, registered
from convgate.models.shake_shake import ShakeShake
from convgate.models.widen import count_parameters, widened

__all__ = [
    "CifarMobileNetV1",
    "CifarResNet",
    "CifarVGG16",
    "DenseNetBC",
    "ModelInput",
    "ModelSpec",
    "PSPNet",
    "PreActResNet",
    "Registration",
    "ShakeShake",
    "count_parameters",
    "create",
    "create_model",
    "faster_rcnn",
    "identify",
    "input_shape",
    "list_models",
    "model_input",
    "point_detector",
    "preparation_of",
    "prepared_at",
    "pretrained",
    "register_model",
    "registered",
    "retinanet",
    "synsets",
    "widened",
]
