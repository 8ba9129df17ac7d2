"""The sums of convolutions of 8-bit integers: int32, exact, and by matrix products of floats, which are faster."""

import numpy as np

from convgate.engine.program import Conv

__all__ = ["convolution"]

_FLOAT32 = 1 << 24
"""Up to here float32 has every integer; float64 up to 2^53, which no int32 leaves."""


def convolution(op: Conv, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """int32 [N, out, H, W]: the convolution of `x` [N, C, H, W] with `weight`, without a bias.

    No partial sum leaves the integers that the type of the matrix product has, so its order makes no difference.
    """
    top, left, bottom, right = op.padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    if weight.shape[1] == 1 and op.groups == len(weight) == x.shape[1]:
        return _depthwise(op, x, weight)
    most = np.abs(weight.reshape(len(weight), -1).astype(np.int64)).sum(1).max() * 255
    kind = np.float32 if most < _FLOAT32 else np.float64
    parts = zip(np.split(x, op.groups, 1), np.split(weight, op.groups), strict=True)
    return np.concatenate([_product(op, part, own, kind) for part, own in parts], 1)


def _product(op: Conv, x: np.ndarray, weight: np.ndarray, kind: type) -> np.ndarray:
    windows = _windows(op, x, weight.shape[2:])
    n, channels, height, width = windows[0].shape
    columns: np.ndarray = np.empty((n, len(windows), channels, height, width), kind)
    for tap, window in enumerate(windows):
        columns[:, tap] = window
    rows: np.ndarray = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1).astype(kind)
    sums = np.matmul(rows, columns.reshape(n, -1, height * width))
    return sums.astype(np.int32).reshape(n, len(weight), height, width)


def _depthwise(op: Conv, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    total: np.ndarray | None = None
    taps = weight.reshape(len(weight), -1).astype(np.int32).T[:, :, None, None]
    for window, tap in zip(_windows(op, x, weight.shape[2:]), taps, strict=True):
        product = window * tap
        total = product if total is None else np.add(total, product, out=total)
    assert total is not None
    return total


def _windows(op: Conv, x: np.ndarray, kernel: tuple[int, ...]) -> list[np.ndarray]:
    """For each element of the kernel, the elements of the padded `x` that it meets."""
    size = [(x.shape[2 + i] - op.dilation[i] * (kernel[i] - 1) - 1) // op.stride[i] + 1 for i in range(2)]
    found = []
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            begin = row * op.dilation[0], column * op.dilation[1]
            ends = (b + (n - 1) * s + 1 for b, n, s in zip(begin, size, op.stride, strict=True))
            rows, columns = (slice(b, end, s) for b, end, s in zip(begin, ends, op.stride, strict=True))
            found.append(x[:, :, rows, columns])
    return found
