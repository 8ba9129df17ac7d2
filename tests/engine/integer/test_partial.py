"""Partial sums by the reference: decisions on them, and their completion, against PyTorch in double precision."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from convgate.engine.integer import brought
from convgate.engine.integer.partial import completed, decided
from convgate.engine.program import Gate, GateKind, IntegerComplete, IntegerDecide, Program

RNG = np.random.default_rng(0)


def decision(sums, offset, group, strict):
    units = -(-sums.shape[1] // group)
    gate = Gate("g", GateKind.ACTIVATION, (units, *sums.shape[2:]), group)
    arrays = {"o": np.full((units, 1, 1), offset, np.int32), "s": np.full(units, 0.5, np.float32)}
    op = IntegerDecide(("sums",), "g", "o", scale="s", strict=strict)
    return decided(op, Program((), (gate,), (op,), (), (), arrays), gate, sums)


@pytest.mark.parametrize("strict", [False, True])
def test_a_threshold_is_exact_at_equality(strict):
    sums = np.array([-1, 0, 1], np.int32).reshape(1, 1, 1, 3) + 2**24 + 1  # more than float32 can tell apart
    mask, logits = decision(sums, -(2**24 + 1), 1, strict)
    assert mask.ravel().tolist() == [0, int(not strict), 1]
    assert logits.ravel().tolist() == [-0.5, 0, 0.5]


def test_a_unit_is_decided_on_the_sum_of_its_channels():
    sums = RNG.integers(-100, 100, (2, 5, 3, 4)).astype(np.int32)
    mask, logits = decision(sums, 7, 2, True)
    expected = np.stack([sums[:, :2].sum(1), sums[:, 2:4].sum(1), sums[:, 4]], 1) + 7
    np.testing.assert_array_equal(mask, expected > 0)
    np.testing.assert_array_equal(logits, expected / 2)
    assert 0 < mask.mean() < 1


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("added", [False, True])
def test_sums_are_completed_where_the_mask_is_open(parts, added):
    x = RNG.integers(0, 256, (2, 4, 6, 5)).astype(np.uint8)
    sums = RNG.integers(-(2**16), 2**16, (2, 6, 3, 3)).astype(np.int32)
    reads = 4 if parts == 1 else 2
    arrays = {"w": RNG.integers(-127, 128, (6, reads, 3, 3)).astype(np.int8)}
    for prefix in ("", "open_"):
        arrays |= {
            f"{prefix}b": RNG.integers(-(2**12), 2**12, 6).astype(np.int32),
            f"{prefix}m": RNG.integers(-(2**15) + 1, 2**15, 6).astype(np.int32),
            f"{prefix}s": RNG.integers(20, 28, 6).astype(np.int32),
        }
    names = {
        prefix + field: prefix + key
        for prefix in ("", "open_")
        for field, key in (("bias", "b"), ("multiplier", "m"), ("shift", "s"))
    }
    op = IntegerComplete(
        ("x", "sums", "r") if added else ("x", "sums"), "y", "w", "layer", "g", (2, 2), (1, 1, 1, 1), (1, 1), parts,
        **names, addend=(20000, 15), low=-90, high=120,
    )  # fmt: skip
    added_map = RNG.integers(-127, 128, sums.shape).astype(np.int8)
    mask = (RNG.random(sums.shape) < 0.5).astype(np.uint8)
    inputs = [x, sums, added_map] if added else [x, sums]
    found = completed(op, Program((), (), (op,), (), (), arrays), mask, inputs)

    def convolved(chunk, weight):
        y = F.conv2d(torch.from_numpy(chunk).double(), torch.from_numpy(weight).double(), stride=2, padding=1)
        return y.numpy().astype(np.int64)

    if parts == 1:
        rest = convolved(x, arrays["w"])
    else:
        rest = np.concatenate([convolved(x[:, 2:], arrays["w"][:3]), convolved(x[:, :2], arrays["w"][3:])], 1)
    whole, base = (
        brought(total + arrays[f"{prefix}b"][:, None, None], *(arrays[prefix + n][:, None, None] for n in "ms"))
        for prefix, total in (("open_", sums + rest), ("", sums.astype(np.int64)))
    )
    expected = np.where(mask, whole, base)
    if added:
        expected = expected + brought(added_map, 20000, 15)
    np.testing.assert_array_equal(found, np.clip(expected, -90, 120))
    assert found.std() > 1
