"""Random splits that leave each class its share, by the steps of scikit-learn's `train_test_split(stratify=..)`, whose
random draws are repeated one for one: the same seed gives the same split.
"""

import math

import numpy as np

__all__ = ["stratified_split"]


def stratified_split(labels: np.ndarray, test_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split positions at random into (train, test), both shuffled.

    Args:
        labels: the class of each item, integers [N].
        test_share: share of the items for the test part, rounded up, in (0, 1).
        seed: seed of `numpy.random.RandomState`, at least 0.

    Returns:
        Two int64 arrays that hold each position 0..N-1 once between them. In each part every class has its share of
        the whole, to less than one item.

    >>> train, test = stratified_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.5, seed=0)
    >>> sorted((test // 4).tolist())
    [0, 0, 1, 1]

    """
    n_test = math.ceil(test_share * len(labels))
    rng = np.random.RandomState(seed)  # not a Generator: its draws differ
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(which, kind="stable"), np.cumsum(counts)[:-1])
    n_train_of = _apportion(counts, len(labels) - n_test, rng)
    n_test_of = _apportion(counts - n_train_of, n_test, rng)
    train: list[int] = []
    test: list[int] = []
    for positions, a, b in zip(members, n_train_of, n_test_of, strict=True):
        order = positions[rng.permutation(len(positions))]
        train.extend(order[:a])
        test.extend(order[a : a + b])
    return rng.permutation(train), rng.permutation(test)


def _apportion(counts: np.ndarray, n: int, rng: np.random.RandomState) -> np.ndarray:
    """How many of `n` items fall to each class: its share, rounded up for those with the largest remainders."""
    exact = counts / counts.sum() * n
    whole = np.floor(exact)
    left = int(n - whole.sum())
    remainder = exact - whole
    for value in np.unique(remainder)[::-1]:
        if left <= 0:
            break
        (tied,) = np.where(remainder == value)
        chosen = rng.choice(tied, size=min(len(tied), left), replace=False)
        whole[chosen] += 1
        left -= len(chosen)
    return whole.astype(int)
