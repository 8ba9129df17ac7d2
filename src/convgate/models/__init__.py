"""Backbones that torchvision and timm lack, and one way to name them all."""

from convgate.models.cifar_resnet import CifarResNet
from convgate.models.create import OWN, ModelSpec, create, identify

__all__ = ["OWN", "CifarResNet", "ModelSpec", "create", "identify"]
