"""A small detector: torchvision's FCOS with few channels, one level, and residual blocks in place of plain towers.

Tian, Shen, Chen, He: FCOS: Fully Convolutional One-Stage Object Detection, 2019. Losses, anchors, decoding and
suppression are torchvision's. Spatial gates sit in residual branches; so that they can skip the background nearly
everywhere, all but the stem, the merge and the last layers are such branches.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import BasicBlock

from convgate.models.point_detector import point_detector

__all__ = ["PointDetector"]

_STRIDE = 8


class PointDetector(FCOS):
    """See `convgate.models.point_detector`, which builds it and describes its options."""

    made_by = staticmethod(point_detector)

    def __init__(
        self,
        *,
        num_classes: int,
        width: int,
        blocks: Sequence[int],
        tower: int,
        mean: Sequence[float],
        std: Sequence[float],
        score_thresh: float,
        nms_thresh: float,
        detections_per_img: int,
    ) -> None:
        backbone = _Backbone(width, tuple(blocks), tower)
        super().__init__(
            backbone,
            num_classes,
            anchor_generator=AnchorGenerator(((_STRIDE,),), ((1.0,),)),
            head=FCOSHead(backbone.out_channels, 1, num_classes, num_convs=0),
            image_mean=list(mean),
            image_std=list(std),
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
        )
        self.transform = _OwnSize(0, 0, list(mean), list(std))
        self.options = {
            "num_classes": num_classes,
            "width": width,
            "blocks": list(blocks),
            "tower": tower,
            "mean": list(mean),
            "std": list(std),
            "score_thresh": score_thresh,
            "nms_thresh": nms_thresh,
            "detections_per_img": detections_per_img,
        }

    # In float32 whatever the maps are: in bfloat16 losses would be rounded, and boxes coarse. Not in the head, which is
    # a part of what is gated and compiled.

    def compute_loss(self, targets: Any, head_outputs: Any, *rest: Any) -> Any:
        """See torchvision's."""
        return super().compute_loss(targets, _in_float32(head_outputs), *rest)

    def postprocess_detections(self, head_outputs: Any, *rest: Any) -> Any:
        """See torchvision's."""
        return super().postprocess_detections(_in_float32(head_outputs), *rest)


def _in_float32(outputs: dict[str, Any]) -> dict[str, Any]:
    return pytree.tree_map(lambda value: value.float(), outputs)


class _OwnSize(GeneralizedRCNNTransform):
    """Normalises images and pads them to one size, without resizing them."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


class _Backbone(nn.Module):
    """Three residual stages, the last two merged at stride 8, and residual blocks on top."""

    def __init__(self, width: int, blocks: tuple[int, ...], tower: int) -> None:
        super().__init__()
        self.out_channels = 2 * width
        self.stem = nn.Sequential(*_conv(3, 16, 2), *_conv(16, width, 2))
        widths = [width, width, 2 * width, 4 * width]
        self.layers = nn.ModuleList()
        for n, before, after in zip(blocks, widths, widths[1:], strict=False):
            stride = 1 if before == after else 2
            shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            stage = [BasicBlock(before, after, stride, shortcut if stride > 1 else None)]
            self.layers.append(nn.Sequential(*stage, *(BasicBlock(after, after) for _ in range(n - 1))))
        self.lateral = nn.Sequential(nn.Conv2d(2 * width, self.out_channels, 1, bias=False), nn.BatchNorm2d(2 * width))
        self.coarse = nn.Sequential(nn.Conv2d(4 * width, self.out_channels, 1, bias=False), nn.BatchNorm2d(2 * width))
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.tower = nn.Sequential(*(BasicBlock(self.out_channels, self.out_channels) for _ in range(tower)))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        fine = self.layers[1](self.layers[0](self.stem(x)))
        coarse = self.upsample(self.coarse(self.layers[2](fine)))
        return OrderedDict([("0", self.tower(torch.relu(self.lateral(fine) + coarse)))])


def _conv(before: int, after: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
