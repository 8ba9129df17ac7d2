"""Small networks for dense prediction, images in and tensors out: segmenters, and a detector in the style of YOLO."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from torchvision.models.segmentation.fcn import FCN, FCNHead
from torchvision.models.segmentation.lraspp import LRASPP

from convgate.models import create

CLASSES = 3


def _backbone(**layers):
    return IntermediateLayerGetter(create("cifar_resnet8", width=8), layers)


def deeplab():
    """With dilated branches and a pooled one, and an auxiliary head."""
    return DeepLabV3(_backbone(layer2="aux", layer3="out"), DeepLabHead(32, CLASSES, (2, 4, 6)), FCNHead(16, CLASSES))


def fcn():
    return FCN(_backbone(layer3="out"), FCNHead(32, CLASSES))


def lraspp():
    return LRASPP(_backbone(layer1="low", layer3="high"), 8, 32, CLASSES, 16)


class _Conv(nn.Sequential):
    def __init__(self, inputs, outputs, kernel=1, stride=1):
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.SiLU())


class _Bottleneck(nn.Module):
    def __init__(self, channels, *, shortcut):
        super().__init__()
        self.first, self.second, self.shortcut = _Conv(channels, channels, 3), _Conv(channels, channels, 3), shortcut

    def forward(self, x):
        y = self.second(self.first(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    """Bottlenecks one after another, whose outputs are all joined."""

    def __init__(self, inputs, outputs, depth=1, *, shortcut=True):
        super().__init__()
        self.half = outputs // 2
        self.enter = _Conv(inputs, outputs)
        self.blocks = nn.ModuleList(_Bottleneck(self.half, shortcut=shortcut) for _ in range(depth))
        self.leave = _Conv((2 + depth) * self.half, outputs)

    def forward(self, x):
        parts = list(self.enter(x).chunk(2, 1))
        parts.extend(block(parts[-1]) for block in self.blocks)
        return self.leave(torch.cat(parts, 1))


class SPPF(nn.Module):
    """Maxima over ever larger windows, joined."""

    def __init__(self, channels):
        super().__init__()
        self.enter, self.leave = _Conv(channels, channels // 2), _Conv(channels * 2, channels)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        y = [self.enter(x)]
        for _ in range(3):
            y.append(self.pool(y[-1]))
        return self.leave(torch.cat(y, 1))


class Yolo(nn.Module):
    """A backbone of C2f blocks, paths up and down, and heads for boxes and classes of their own on each of 2 levels.

    Returns [N, 4 + classes, positions of all levels].
    """

    def __init__(self, width=8):
        super().__init__()
        w = width
        self.stem = nn.Sequential(_Conv(3, w, 3, 2), _Conv(w, 2 * w, 3, 2), C2f(2 * w, 2 * w))
        self.deep = nn.Sequential(_Conv(2 * w, 4 * w, 3, 2), C2f(4 * w, 4 * w, 2), SPPF(4 * w))
        self.up = C2f(6 * w, 2 * w, shortcut=False)
        self.down = _Conv(2 * w, 2 * w, 3, 2)
        self.last = C2f(6 * w, 4 * w, shortcut=False)
        self.boxes = nn.ModuleList(nn.Sequential(_Conv(c, w, 3), nn.Conv2d(w, 4, 1)) for c in (2 * w, 4 * w))
        self.classes = nn.ModuleList(nn.Sequential(_Conv(c, w, 3), nn.Conv2d(w, CLASSES, 1)) for c in (2 * w, 4 * w))

    def forward(self, x):
        shallow = self.stem(x)
        deep = self.deep(shallow)
        first = self.up(torch.cat((F.interpolate(deep, scale_factor=2), shallow), 1))
        second = self.last(torch.cat((self.down(first), deep), 1))
        levels = zip((first, second), self.boxes, self.classes, strict=True)
        maps = [torch.cat((boxes(x), classes(x)), 1) for x, boxes, classes in levels]
        return torch.cat([x.view(x.shape[0], 4 + CLASSES, -1) for x in maps], 2)


NETWORKS = {"DeepLabV3": deeplab, "FCN": fcn, "LR-ASPP": lraspp, "YOLO": Yolo}


def build(name):
    torch.manual_seed(0)
    return NETWORKS[name]().eval()
