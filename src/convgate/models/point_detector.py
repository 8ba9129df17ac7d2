"""A small detector by name. What it is made of is imported when it is built: torchvision's detectors take a second."""

from collections.abc import Sequence

from torch import nn

from convgate.models.registry import ModelInput, register_model

__all__ = ["point_detector"]


@register_model("point_detector", input=ModelInput((3, 320, 320)))
def point_detector(
    num_classes: int = 11,
    width: int = 24,
    blocks: Sequence[int] = (1, 2, 2),
    tower: int = 2,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.25, 0.25, 0.25),
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    detections_per_img: int = 100,
) -> nn.Module:
    """Torchvision's FCOS in small: residual blocks, one level of stride 8, for objects of 16 to about 150 pixels.

    It is called as torchvision's detectors are, with lists of images, which keep their size.

    Args:
        num_classes: classes with the background, whose number is 0.
        width: channels of the first stage; the later ones have two and four times as many.
        blocks: residual blocks in each of the three stages.
        tower: residual blocks behind the merge, which both heads read.
        mean: mean of each channel, of values in [0, 1].
        std: standard deviation of each channel.
        score_thresh: boxes of a lower score are left out.
        nms_thresh: of boxes of one class that overlap by more (IoU), the best is kept.
        detections_per_img: the most boxes of an image.

    >>> import torch
    >>> found = point_detector(width=8).eval()([torch.rand(3, 64, 96)])
    >>> sorted(found[0])
    ['boxes', 'labels', 'scores']
    """
    from convgate.models.fcos import PointDetector

    return PointDetector(
        num_classes=num_classes,
        width=width,
        blocks=blocks,
        tower=tower,
        mean=mean,
        std=std,
        score_thresh=score_thresh,
        nms_thresh=nms_thresh,
        detections_per_img=detections_per_img,
    )
