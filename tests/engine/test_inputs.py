"""Images that are not what a program takes are refused, each with what was given."""

import numpy as np
import pytest
import torch
from tests.hardware.programs import engine_of

from convgate.engine.inputs import checked_inputs, require_finite
from convgate.errors import InputError

IMAGES = np.zeros((2, 3, 16, 16), np.float32)


def test_images_of_any_size_are_taken_as_they_are():
    program = engine_of("dual")[0].program
    for images in (IMAGES, IMAGES[:, :, :12], IMAGES[..., ::2]):
        (found,) = checked_inputs(program, [images])
        assert found.flags.c_contiguous
        assert (found == images).all()


@pytest.mark.parametrize(
    ("images", "match"),
    [
        ([IMAGES, IMAGES], "given 2 inputs; this network takes 1"),
        ([IMAGES[0]], r"of shape \[3, 16, 16\]"),
        ([IMAGES[:0]], "N >= 1"),
        ([IMAGES[:, :2]], r"of shape \[2, 2, 16, 16\]"),
        ([IMAGES.astype(np.uint8)], "of uint8; it takes float32"),
        ([torch.zeros(1, 3, 16, 16, requires_grad=True)], r"a Tensor that is no array.*images\.detach\(\)"),
        ([torch.zeros(1, 3, 16, 16, dtype=torch.bfloat16)], "a Tensor that is no array"),
        ([[IMAGES, IMAGES[0]]], "a list that is no array"),
    ],
)
def test_others_are_refused(images, match):
    with pytest.raises(InputError, match=match):
        checked_inputs(engine_of("dual")[0].program, images)


def test_masks_are_given_by_the_names_of_their_gates():
    engine = engine_of("dual")[0]
    with pytest.raises(InputError, match="given is a list; give masks by the names"):
        engine.run(IMAGES, given=[np.ones(1)])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    require_finite([IMAGES])
    with pytest.raises(InputError, match="not finite"):
        require_finite([IMAGES, np.full_like(IMAGES, value)])
