"""A CIFAR ResNet with fewer channels, of a share of the MACs: the static network that a gated one is compared with."""

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement, product

import numpy as np

from convgate.cost import count_macs
from convgate.errors import RecipeError
from convgate.models import ModelSpec, input_shape
from convgate.models.create import on_meta

__all__ = ["narrowed"]

_REACH = 4
_CLOSE = 0.003
# Widths within this share of the MACs that are asked for are as good as each other; the most even ones are taken.


def narrowed(spec: ModelSpec, budget: float) -> list[int]:
    """The widths of the stages with which the network has that share of its MACs, all stages narrowed as evenly as it
    takes to come within 0.3 % of it (as near as there is, if none does).

    Raises `RecipeError` for a model whose stages have no `widths`.

    >>> narrowed(ModelSpec("cifar_resnet20", {"shortcut": "A"}), 0.5)  # doctest: +SKIP
    [12, 21, 45]
    """
    options = getattr(on_meta(spec.create), "options", {})
    if "stages" not in options:
        raise RecipeError(
            f"{spec.name} has no stages of given widths, so it has no narrower form; leave this control out"
        )
    whole = options.get("widths") or [options["width"] * 2**stage for stage in range(options["stages"])]
    plain = {name: value for name, value in spec.options.items() if name not in ("width", "widths")}
    macs = _polynomial(ModelSpec(spec.name, plain), whole)
    near = [round(width * budget**0.5) for width in whole]
    found = np.array([*product(*(range(max(1, width - _REACH), width + _REACH + 1) for width in near))])
    distance = np.abs(macs(found) / (budget * macs(np.array([whole]))) - 1)
    shares = found / np.array(whole)
    uneven = shares.max(1) / shares.min(1)
    best = np.where(distance <= _CLOSE, uneven, np.inf).argmin() if distance.min() <= _CLOSE else distance.argmin()
    return [int(width) for width in found[best]]


def _polynomial(spec: ModelSpec, whole: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """The MACs by the stages' widths [N, stages]: a convolution's are a product of two, so a polynomial of degree two
    goes through all of them, and is found from a few.
    """
    pairs = [*combinations_with_replacement(range(len(whole) + 1), 2)]  # of the widths and 1

    def products(widths: np.ndarray) -> np.ndarray:
        with_one = np.concatenate([widths, np.ones((len(widths), 1))], 1)
        return np.stack([with_one[:, i] * with_one[:, j] for i, j in pairs], 1)

    shape, rng = input_shape(spec.name), np.random.default_rng(0)
    points = np.stack([rng.integers(2, 2 * width, len(pairs) + 3) for width in whole], 1)
    counted = []
    for point in points.tolist():
        model = on_meta(ModelSpec(spec.name, {**spec.options, "widths": point}).create)
        counted.append(count_macs(model, shape))
    factors = np.linalg.lstsq(products(points), np.array(counted), rcond=None)[0]
    return lambda widths: products(widths) @ factors
