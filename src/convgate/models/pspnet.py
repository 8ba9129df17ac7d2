"""PSPNet: a dilated ResNet, pooled at four scales; for a class for each pixel.

Zhao, Shi, Qi, Wang, Jia: Pyramid Scene Parsing Network, 2017.

Differences from the paper: bodies are torchvision's ResNets, with one 7x7 convolution in front and not three 3x3 ones.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.models.bodies import check_body, dilated, load_published
from convgate.models.registry import ModelInput, register_model

__all__ = ["PSPNet"]

_BINS = (1, 2, 3, 6)


def _published(model: "PSPNet") -> None:
    load_published(model, model.options["body"])


@register_model("pspnet", input=ModelInput((3, 713, 713)), pretrained=_published)
class PSPNet(nn.Module):
    """Logits {"out": [N, classes, H, W]} of the images' size; in training those of the auxiliary head, too, as "aux".

    Images have any height and width of at least 48 pixels.

    Args:
        num_classes: how many classes there are.
        body: a ResNet of torchvision's: resnet18, resnet50, ..
        width: channels behind the pooled maps, 512 in the paper.
        dropout: in front of the last layers.

    >>> PSPNet(4, width=16).eval()(torch.zeros(1, 3, 64, 96))["out"].shape
    torch.Size([1, 4, 64, 96])

    """

    def __init__(self, num_classes: int = 19, body: str = "resnet50", width: int = 512, dropout: float = 0.1) -> None:
        import torchvision

        super().__init__()
        check_body(body)
        self.options: dict[str, Any] = {"num_classes": num_classes, "body": body, "width": width, "dropout": dropout}
        resnet: Any = torchvision.models.get_model(body, weights=None)
        channels = resnet.fc.in_features
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        dilated(self.layer3, 2)
        dilated(self.layer4, 4)
        each = channels // len(_BINS)
        self.pooled = nn.ModuleList(nn.Sequential(*_unit(channels, each, 1)) for _ in _BINS)
        self.head = nn.Sequential(
            *_unit(channels + each * len(_BINS), width, 3), nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1)
        )
        self.auxiliary = nn.Sequential(
            *_unit(channels // 2, max(width // 2, 1), 3),
            nn.Dropout2d(dropout),
            nn.Conv2d(max(width // 2, 1), num_classes, 1),
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """See the class."""
        size = x.shape[2:]
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        middle = self.layer3(self.layer2(self.layer1(x)))
        x = self.layer4(middle)
        maps = [x]
        for bins, unit in zip(_BINS, self.pooled, strict=True):
            pooled = unit(F.adaptive_avg_pool2d(x, bins))
            maps.append(F.interpolate(pooled, size=x.shape[2:], mode="bilinear", align_corners=False))
        found = {"out": self.head(torch.cat(maps, 1))}
        if self.training:
            found["aux"] = self.auxiliary(middle)
        return {
            name: F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
            for name, logits in found.items()
        }


def _unit(before: int, after: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
