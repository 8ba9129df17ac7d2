"""Decoding and suppression without PyTorch keep the boxes that torchvision's keep."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder
from torchvision.ops import batched_nms as theirs_batched
from torchvision.ops import nms as theirs

import convgate
from convgate.engine.boxes import anchors, batched_nms, clip, decode_deltas, decode_distances, detect, nms
from convgate.methods import DualGating
from convgate.models import create


@st.composite
def boxes_and_scores(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(0, 40))
    # Whole numbers make equal overlaps and equal scores likely; some boxes have no area.
    corner, side = rng.integers(0, 30, (n, 2)), rng.integers(0, 20, (n, 2))
    boxes = np.concatenate([corner, corner + side], 1).astype(np.float32)
    if draw(st.booleans()):
        boxes += rng.random((n, 1), dtype=np.float32)
    scores = (rng.integers(0, 12, n) / 12).astype(np.float32)
    return boxes, scores, rng.integers(0, 3, n)


@settings(max_examples=60, deadline=None)
@given(boxes_and_scores(), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_nms_is_torchvisions(given_boxes, overlap):
    boxes, scores, labels = given_boxes
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
    assert nms(boxes, scores, overlap).tolist() == theirs(*tensors, overlap).tolist()
    ours = batched_nms(boxes, scores, labels, overlap)
    expected = np.concatenate(
        [
            own[theirs(tensors[0][own], tensors[1][own], overlap).numpy()]
            for k in range(3)
            if len(own := np.nonzero(labels == k)[0])
        ]
        or [np.zeros(0, np.int64)]
    )
    assert sorted(ours.tolist()) == sorted(expected.tolist())
    assert (np.diff(scores[ours]) <= 0).all()


def test_batched_nms_on_distinct_scores_is_torchvisions_in_order():
    rng = np.random.default_rng(0)
    corner = rng.random((60, 2), dtype=np.float32) * 50
    boxes = np.concatenate([corner, corner + 5 + rng.random((60, 2), dtype=np.float32) * 20], 1)
    scores, labels = rng.permutation(60).astype(np.float32), rng.integers(0, 4, 60)
    expected = theirs_batched(*map(torch.from_numpy, (boxes, scores, labels)), 0.4)
    assert batched_nms(boxes, scores, labels, 0.4).tolist() == expected.tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20))
def test_decoding_is_torchvisions(seed, n):
    rng = np.random.default_rng(seed)
    corner = rng.integers(-20, 60, (n, 2))
    around = np.concatenate([corner, corner + rng.integers(1, 64, (n, 2))], 1).astype(np.float32)
    values = rng.standard_normal((n, 4)).astype(np.float32) * 3
    tensors = torch.from_numpy(values), torch.from_numpy(around)
    np.testing.assert_array_equal(decode_distances(values, around), BoxLinearCoder(True).decode(*tensors).numpy())
    for weights in ((1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)):
        expected = BoxCoder(weights).decode_single(*tensors).numpy()
        np.testing.assert_allclose(decode_deltas(values, around, weights), expected, rtol=1e-5, atol=1e-4)


def test_nothing_found():
    found = detect([(np.zeros((4, 3), np.float32), np.zeros((4, 4), np.float32))], (8, 8))
    assert (found.boxes.shape, found.scores.shape, found.labels.dtype) == ((0, 4), (0,), np.int64)
    none = detect([], (8, 8))
    assert (none.boxes.shape, none.scores.shape, none.labels.dtype) == ((0, 4), (0,), np.int64)
    assert clip(np.array([[-3.0, 2.0, 50.0, 9.0]]), 8, 20).tolist() == [[0, 2, 20, 8]]


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (50, 33)])
def test_a_detector_without_pytorch_finds_what_it_finds_with_it(size):
    torch.manual_seed(0)
    model = create("point_detector", num_classes=4, width=8, tower=1, score_thresh=0.009).eval()
    net = convgate.gate(model, DualGating(init="paper", tile=2), [torch.zeros(3, 64, 96)]).eval()
    image = torch.rand(3, *size)
    (expected,) = net([image])
    prepared, _ = net.transform([image])
    *_, maps = convgate.compile(net, threads=1)(prepared.tensors.numpy())
    logits, distances, centre = (maps[name][0] for name in ("cls_logits", "bbox_regression", "bbox_ctrness"))
    height, width = (side // 8 for side in prepared.tensors.shape[2:])
    around = anchors(height, width, 8, [(-4, -4, 4, 4)])
    scores = np.sqrt(1 / (1 + np.exp(-logits)) * (1 / (1 + np.exp(-centre))))
    found = detect([(scores, decode_distances(distances, around))], size, threshold=0.009, most=100)
    assert len(found.boxes)
    np.testing.assert_allclose(found.scores, expected["scores"].numpy(), rtol=1e-4)
    best = slice(0, 10)  # of equal scores, rounding may change the order
    np.testing.assert_allclose(found.boxes[best], expected["boxes"].numpy()[best], rtol=1e-3, atol=1e-2)
