"""From a detector's maps to boxes with NumPy alone: decoding and non-maximum suppression, as torchvision does them.

An engine computes the maps of a detector (`convgate.compile(detector)`); where PyTorch is installed the detector's own
code decodes them (`detector.run_on(engine, images)`), elsewhere what is here does. Boxes are x1, y1, x2, y2 in pixels.
The arithmetic is torchvision's in the same order and precision, so that the same boxes are kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Detections", "anchors", "batched_nms", "clip", "decode_deltas", "decode_distances", "detect", "nms"]

_MOST = math.log(1000.0 / 16)
# What torchvision's BoxCoder limits logarithms of sizes to.


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in an image, best first: boxes float32 [M, 4], scores float32 [M], labels int64 [M]."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def anchors(height: int, width: int, stride: int | tuple[int, int], cells: Sequence[Sequence[float]]) -> np.ndarray:
    """The anchors of a map [height, width], float32 [height * width * len(cells), 4], in the maps' order.

    Args:
        height: of the map.
        width: of the map.
        stride: pixels of the image from one position to the next; or (down, across).
        cells: the anchors at the first position, around (0, 0).

    >>> anchors(1, 2, 8, [(-4, -4, 4, 4)]).tolist()
    [[-4.0, -4.0, 4.0, 4.0], [4.0, -4.0, 12.0, 4.0]]

    """
    down, across = (stride, stride) if isinstance(stride, int) else stride
    y, x = np.meshgrid(np.arange(height) * down, np.arange(width) * across, indexing="ij")
    shifts = np.stack([x, y, x, y], -1).reshape(-1, 1, 4).astype(np.float32)
    return (shifts + np.asarray(cells, dtype=np.float32)).reshape(-1, 4)


def decode_distances(distances: np.ndarray, around: np.ndarray) -> np.ndarray:
    """FCOS: distances to left, top, right and bottom, in units of the anchor's size, from the anchor's centre.

    Both float32 [.., 4]; the same as torchvision's `BoxLinearCoder(normalize_by_size=True).decode`.
    """
    centre_x = np.float32(0.5) * (around[..., 0] + around[..., 2])
    centre_y = np.float32(0.5) * (around[..., 1] + around[..., 3])
    width, height = around[..., 2] - around[..., 0], around[..., 3] - around[..., 1]
    left, top, right, bottom = np.moveaxis(distances * np.stack([width, height, width, height], -1), -1, 0)
    return np.stack([centre_x - left, centre_y - top, centre_x + right, centre_y + bottom], -1)


def decode_deltas(
    deltas: np.ndarray, around: np.ndarray, weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
) -> np.ndarray:
    """R-CNN, RetinaNet, SSD: shifts of the centre in units of the anchor's size, and logarithms of the sizes' ratios.

    Both float32 [M, 4]; the same as torchvision's `BoxCoder(weights).decode_single` but for the last bit of `exp`.
    """
    width, height = around[:, 2] - around[:, 0], around[:, 3] - around[:, 1]
    centre_x = around[:, 0] + np.float32(0.5) * width
    centre_y = around[:, 1] + np.float32(0.5) * height
    dx, dy, dw, dh = (deltas[:, i] / np.float32(weight) for i, weight in enumerate(weights))
    dw, dh = np.minimum(dw, np.float32(_MOST)), np.minimum(dh, np.float32(_MOST))
    x, y = dx * width + centre_x, dy * height + centre_y
    half_width, half_height = np.float32(0.5) * (np.exp(dw) * width), np.float32(0.5) * (np.exp(dh) * height)
    return np.stack([x - half_width, y - half_height, x + half_width, y + half_height], 1)


def clip(boxes: np.ndarray, height: float, width: float) -> np.ndarray:
    """Boxes [.., 4], cut off at the image's edges."""
    limits = np.asarray([width, height, width, height], dtype=boxes.dtype)
    return np.minimum(np.maximum(boxes, 0), limits)


def nms(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Indices int64 of the boxes that are kept, best first: no two overlap by an IoU above `overlap`.

    Args:
        boxes: float [M, 4].
        scores: float [M]; of equal ones the earlier box comes first.
        overlap: in [0, 1].

    >>> boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]], np.float32)
    >>> nms(boxes, np.array([0.5, 0.9, 0.7], np.float32), 0.5).tolist()
    [1, 2]

    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes[order].T
    areas = (x2 - x1) * (y2 - y1)
    suppressed = np.zeros(len(order), dtype=bool)
    kept = []
    for i in range(len(order)):
        if suppressed[i]:
            continue
        kept.append(i)
        rest = slice(i + 1, None)
        wide = np.maximum(np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest]), 0)
        high = np.maximum(np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest]), 0)
        shared = wide * high
        with np.errstate(invalid="ignore", divide="ignore"):  # two boxes without an area: NaN suppresses nothing
            # Compared in float64, as torchvision does: its threshold is a double.
            suppressed[rest] |= (shared / (areas[i] + areas[rest] - shared)).astype(np.float64) > overlap
    return order[kept].astype(np.int64)


def batched_nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, overlap: float) -> np.ndarray:
    """As `nms`, but only boxes of one label (int [M]) suppress each other."""
    kept = []
    for label in np.unique(labels):
        (own,) = np.nonzero(labels == label)
        kept.append(own[nms(boxes[own], scores[own], overlap)])
    found = np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.int64)
    return found[np.argsort(-scores[found], kind="stable")].astype(np.int64)


def detect(
    levels: Sequence[tuple[np.ndarray, np.ndarray]],
    size: tuple[int, int],
    *,
    threshold: float = 0.05,
    overlap: float = 0.5,
    candidates: int = 1000,
    most: int = 100,
) -> Detections:
    """The detections in one image, as RetinaNet and FCOS of torchvision make them of what their heads return.

    Args:
        levels: for each level of the pyramid (scores float32 [A, K], in [0, 1]; boxes float32 [A, 4], decoded). Without
            any, nothing is found.
        size: height and width of the image, without what it was padded by.
        threshold: candidates of a lower score are left out.
        overlap: of boxes of one class that overlap by more, the best is kept.
        candidates: how many of each level at most, the best.
        most: how many detections at most.

    """
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for scores, boxes in levels:
        flat, classes = scores.reshape(-1), scores.shape[1]
        (over,) = np.nonzero(flat > np.float32(threshold))
        best = over[np.argsort(-flat[over], kind="stable")[:candidates]]
        found.append((clip(boxes[best // classes], *size), flat[best], best % classes))
    if not found:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    every = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    kept = batched_nms(every[0], every[1], every[2], overlap)[:most]
    return Detections(every[0][kept], every[1][kept], every[2][kept].astype(np.int64))
