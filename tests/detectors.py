"""Small detectors of torchvision's classes, with random weights, for images of about 64 pixels."""

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssd import SSD

from convgate.models import create

CLASSES = 3


class _Maps(nn.Module):
    """A backbone of three maps without a pyramid."""

    def __init__(self):
        super().__init__()
        self.body = create("cifar_resnet8", width=4)
        self.more = nn.Conv2d(16, 8, 3, 2, 1)

    def forward(self, x):
        b = self.body
        x = b.layer2(b.layer1(torch.relu(b.bn1(b.conv1(x)))))
        y = b.layer3(x)
        return {"a": x, "b": y, "c": self.more(y)}


def _pyramid(channels=8):
    body = create("cifar_resnet8", width=4)
    return BackboneWithFPN(body, {"layer2": "0", "layer3": "1"}, [8, 16], channels)


def _anchors(levels=3):
    return AnchorGenerator(tuple((8 * 2**i,) for i in range(levels)), ((0.5, 1.0),) * levels)


def _small(**options):
    return {"min_size": 48, "max_size": 1344, **options}


def retinanet():
    return RetinaNet(
        _pyramid(), CLASSES, anchor_generator=_anchors(), **_small(score_thresh=0.0, detections_per_img=20)
    )


def fcos():
    anchors = AnchorGenerator(((4,), (8,), (16,)), ((1.0,),) * 3)
    return FCOS(_pyramid(32), CLASSES, anchor_generator=anchors, **_small(score_thresh=0.0, detections_per_img=20))


def faster_rcnn():
    return FasterRCNN(
        _pyramid(), CLASSES, rpn_anchor_generator=_anchors(), **_small(rpn_post_nms_top_n_test=20, box_score_thresh=0.0)
    )


def ssd():
    boxes = DefaultBoxGenerator([[2], [2], [2]], min_ratio=20, max_ratio=90)
    return SSD(_Maps(), boxes, (64, 64), CLASSES, score_thresh=0.0, detections_per_img=20, topk_candidates=20)


DETECTORS = {"RetinaNet": retinanet, "FCOS": fcos, "Faster R-CNN": faster_rcnn, "SSD": ssd}


def build(name):
    torch.manual_seed(0)
    model = DETECTORS[name]().eval()
    for module in model.modules():  # statistics and scales that are not all alike
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def same(a, b):
    """Are two lists of detections equal?"""
    pairs = list(zip(a, b, strict=True))
    return all(x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in pairs)
