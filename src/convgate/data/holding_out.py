"""Holding out some of what a network learns from, to choose by."""

from convgate.data.images import AnySet
from convgate.errors import InputError

__all__ = ["hold_out", "split_off"]


def split_off(images: AnySet, n: int, seed: int) -> tuple[AnySet, AnySet]:
    """Split at random into `(rest, held_out)` with `n` images held out; 1 <= n < len(images)."""
    if not 1 <= n < len(images):
        raise InputError(
            f"n is {n}, of {len(images)} images: it must lie in [1, {len(images) - 1}], for neither part may be empty."
        )
    order = images.order(seed)
    return images.subset(order[n:]), images.subset(order[:n])


def hold_out(images: AnySet, validation: int | None, seed: int, *, most: int | None = None) -> tuple[AnySet, AnySet]:
    """Split at random into `(rest, held_out)`; both are `images` itself where none are held out.

    Args:
        images: all that there is to learn from.
        validation: how many are held out, 0 for none; None for a tenth of them.
        seed: seed of the choice.
        most: of a tenth, so many at most.

    Raises:
        InputError: nothing would be left to learn from.

    """
    if validation == 0:
        return images, images
    if validation is None:
        tenth = max(1, len(images) // 10)
        validation = tenth if most is None else min(most, tenth)
    if not 1 <= validation < len(images):
        raise InputError(
            f"the option validation is {validation}, and there are {len(images)} training images: give a number in "
            f"[0, {len(images) - 1}] (data.options.validation in a recipe), for something must be left to learn from."
        )
    return split_off(images, validation, seed)
