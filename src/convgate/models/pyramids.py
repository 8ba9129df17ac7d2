"""Torchvision's RetinaNet and Faster R-CNN on a ResNet by name, with the options that they were built with."""

from typing import Any

import torchvision
from torch import nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from convgate.errors import InputError
from convgate.models.bodies import check_body
from convgate.models.pyramid_detectors import faster_rcnn, retinanet

__all__ = ["PyramidFasterRCNN", "PyramidRetinaNet"]

_STAGES = ("conv1", "layer1", "layer2", "layer3", "layer4")
_CHANNELS = 256


class PyramidRetinaNet(RetinaNet):
    """See `convgate.models.pyramid_detectors.retinanet`, which builds it and describes its options."""

    made_by = staticmethod(retinanet)

    def __init__(self, **options: Any) -> None:
        backbone = _pyramid(options["body"], options["frozen"], (2, 3, 4), LastLevelP6P7(_CHANNELS, _CHANNELS))
        super().__init__(
            backbone,
            options["num_classes"],
            min_size=options["least"],
            max_size=options["most"],
            detections_per_img=options["detections_per_img"],
        )
        self.options = options


class PyramidFasterRCNN(FasterRCNN):
    """See `convgate.models.pyramid_detectors.faster_rcnn`, which builds it and describes its options."""

    made_by = staticmethod(faster_rcnn)

    def __init__(self, **options: Any) -> None:
        backbone = _pyramid(options["body"], options["frozen"], (1, 2, 3, 4), LastLevelMaxPool())
        super().__init__(
            backbone,
            options["num_classes"],
            rpn_anchor_generator=AnchorGenerator(tuple((32 * 2**i,) for i in range(5)), ((0.5, 1.0, 2.0),) * 5),
            min_size=options["least"],
            max_size=options["most"],
            box_detections_per_img=options["detections_per_img"],
        )
        self.options = options


def _pyramid(body: str, frozen: int, stages: tuple[int, ...], more: nn.Module) -> BackboneWithFPN:
    check_body(body)
    if not 0 <= frozen <= len(_STAGES):
        raise InputError(f"frozen is {frozen}: of the stem and four stages, 0 to {len(_STAGES)} stay as they are")
    resnet: Any = torchvision.models.get_model(body, weights=None, norm_layer=FrozenBatchNorm2d)
    for name in _STAGES[:frozen]:
        getattr(resnet, name).requires_grad_(False)
    first = resnet.inplanes // 8
    channels = [first * 2 ** (stage - 1) for stage in stages]
    names = {f"layer{stage}": str(number) for number, stage in enumerate(stages)}
    return BackboneWithFPN(resnet, names, channels, _CHANNELS, extra_blocks=more)
