"""convgate's own backbones, small: one of each kind of block and option that their structure depends on."""

from collections.abc import Callable
from functools import partial

from torch import nn

from convgate.models import CifarMobileNetV1, CifarResNet, CifarVGG16, DenseNetBC, PreActResNet, ShakeShake


def densenet() -> nn.Module:
    """A small DenseNet that files can name: tests.small_backbones:densenet."""
    return DenseNetBC(22, 6)


SMALL: dict[str, Callable[[], nn.Module]] = {
    "small resnet, option A": partial(CifarResNet, 8, shortcut="A", width=8),
    "small resnet, four stages": partial(CifarResNet, 10, stages=4, width=8),
    "small resnet, squeezed": partial(CifarResNet, 8, width=8, squeeze=4),
    "small preact": partial(PreActResNet, 20, width=8),
    "small preact, squeezed": partial(PreActResNet, 11, width=8, narrow=False, squeeze=8),
    "small densenet": densenet,
    "small shake-shake": partial(ShakeShake, 26, 4),
    "small shake-shake, narrow stem": partial(ShakeShake, 8, 8, stem=6),
    "small vgg": partial(CifarVGG16, width=8),
    "small mobilenet": partial(CifarMobileNetV1, width=8),
}
"""Name -> builder. Each takes images of 32x32."""

ZEROED = {
    "small resnet, option A": r"layer\d\.\d+\.bn2",
    "small resnet, four stages": r"layer\d\.\d+\.bn2",
    "small resnet, squeezed": r"layer\d\.\d+\.se",
    "small preact": r"layer\d\.\d+\.conv3",
    "small preact, squeezed": r"layer\d\.\d+\.se",
    "small densenet": r"block\d\.\d+\.conv2",
    "small shake-shake": r"layer\d\.\d+\.shake",
    "small shake-shake, narrow stem": r"layer\d\.\d+\.shake",
    "small vgg": r"features\.(5|9|12|16|19|22|26|29|32|36|39)",
    "small mobilenet": r"features\.([1-9]|1[0-2])\.0",
}
"""Name -> the modules whose outputs are zero with all of dual gating's gates closed; one for each of its sites.

What residual units add to their shortcuts; of networks without, the features that only convolutions read, or what a
convolution without a bias makes of them.
"""
