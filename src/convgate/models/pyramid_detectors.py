"""RetinaNet and Faster R-CNN on ResNets, by name. What they are made of is imported when they are built."""

from typing import Any

from torch import nn

from convgate.models.bodies import load_published
from convgate.models.registry import ModelInput, register_model

__all__ = ["faster_rcnn", "retinanet"]


def _published(model: Any) -> None:
    load_published(model.backbone.body, model.options["body"])


@register_model("retinanet", input=ModelInput((3, 800, 800)), pretrained=_published)
def retinanet(
    num_classes: int = 91,
    body: str = "resnet50",
    frozen: int = 2,
    least: int = 800,
    most: int = 1333,
    detections_per_img: int = 100,
) -> nn.Module:
    """Torchvision's RetinaNet on a pyramid of a ResNet's maps at 1/8 to 1/32; called as torchvision's detectors are.

    Norms of the body keep their statistics, scales and shifts. `pretrained` weights are the body's, of ImageNet.

    Lin, Goyal, Girshick, He, Dollar: Focal Loss for Dense Object Detection, 2017.

    Args:
        num_classes: classes with the background, whose number is 0.
        body: a ResNet of torchvision's: resnet18, resnet50, ..
        frozen: how many of the stem and the four stages are not trained, from the first on.
        least: the shorter side that images are scaled to.
        most: what the longer side may then have.
        detections_per_img: the most boxes of an image.

    """
    from convgate.models.pyramids import PyramidRetinaNet

    return PyramidRetinaNet(
        num_classes=num_classes,
        body=body,
        frozen=frozen,
        least=least,
        most=most,
        detections_per_img=detections_per_img,
    )


@register_model("faster_rcnn", input=ModelInput((3, 800, 800)), pretrained=_published)
def faster_rcnn(
    num_classes: int = 91,
    body: str = "resnet50",
    frozen: int = 2,
    least: int = 800,
    most: int = 1333,
    detections_per_img: int = 100,
) -> nn.Module:
    """Torchvision's Faster R-CNN on a pyramid of a ResNet's maps at 1/4 to 1/32; called as torchvision's detectors are.

    Norms of the body keep their statistics, scales and shifts. `pretrained` weights are the body's, of ImageNet.

    Ren, He, Girshick, Sun: Faster R-CNN, 2015; Lin et al.: Feature Pyramid Networks for Object Detection, 2017.

    Args:
        num_classes: classes with the background, whose number is 0.
        body: a ResNet of torchvision's: resnet18, resnet50, ..
        frozen: how many of the stem and the four stages are not trained, from the first on.
        least: the shorter side that images are scaled to.
        most: what the longer side may then have.
        detections_per_img: the most boxes of an image.

    """
    from convgate.models.pyramids import PyramidFasterRCNN

    return PyramidFasterRCNN(
        num_classes=num_classes,
        body=body,
        frozen=frozen,
        least=least,
        most=most,
        detections_per_img=detections_per_img,
    )
