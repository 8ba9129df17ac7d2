import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convgate.data import Augmentation, normalise
from convgate.errors import InputError


def some(n=6, c=3, h=9, w=7, seed=0):
    return torch.randint(0, 256, (n, c, h, w), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def candidates(image, pad, padding, flip):
    """Every crop, mirrored too if `flip`, of one image [C, H, W], value by value."""
    c, h, w = image.shape
    pixels = image.tolist()

    def value(k, y, x):
        if padding == "reflect":
            y, x = (abs(y) if y < h else 2 * (h - 1) - y), (abs(x) if x < w else 2 * (w - 1) - x)
        return pixels[k][y][x] if 0 <= y < h and 0 <= x < w else 0

    found = {}
    for dy in range(-pad, pad + 1):
        for dx in range(-pad, pad + 1):
            crop = [[[value(k, y + dy, x + dx) for x in range(w)] for y in range(h)] for k in range(c)]
            found[dy, dx, False] = torch.tensor(crop, dtype=torch.uint8)
            if flip:
                found[dy, dx, True] = found[dy, dx, False].flip(2)
    return found


@settings(deadline=None, max_examples=40)
@given(
    pad=st.integers(0, 3),
    padding=st.sampled_from(["zeros", "reflect"]),
    flip=st.booleans(),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(4, 8), st.integers(4, 8)),
    seed=st.integers(0, 1000),
)
def test_each_image_becomes_one_crop_of_its_own(pad, padding, flip, shape, seed):
    images = some(*shape, seed=seed)
    out = Augmentation(pad, padding, flip)(images, generator(seed))
    assert out.shape == images.shape
    assert out.dtype == torch.uint8
    for before, after in zip(images, out, strict=True):
        assert any(torch.equal(after, crop) for crop in candidates(before, pad, padding, flip).values())


def test_all_crops_and_flips_are_drawn_equally_often_and_independently():
    image = some(1)
    n = 9 * 2 * 200
    out = Augmentation(1)(image.expand(n, -1, -1, -1), generator())
    counts = {
        key: int((out == crop).flatten(1).all(1).sum()) for key, crop in candidates(image[0], 1, "zeros", True).items()
    }
    assert sum(counts.values()) == n
    assert min(counts.values()) > 130  # of 200 expected, five standard deviations
    assert max(counts.values()) < 270


def test_the_result_is_channels_last_and_repeats_with_the_generator():
    images = some()
    augment = Augmentation(2)
    first = augment(images, generator(1))
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, augment(images, generator(1)))
    assert not torch.equal(first, augment(images, generator(2)))
    assert torch.equal(first, augment(images.contiguous(memory_format=torch.channels_last), generator(1)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: run on a machine that has one")
def test_a_cpu_generator_gives_the_same_on_any_device():
    images = some()
    assert torch.equal(Augmentation(2)(images.cuda(), generator()).cpu(), Augmentation(2)(images, generator()))
    assert Augmentation(2)(images.cuda(), torch.Generator("cuda").manual_seed(0)).is_cuda
    out = normalise(images.cuda(), (0.5,) * 3, (0.2,) * 3).cpu()
    torch.testing.assert_close(out, normalise(images, (0.5,) * 3, (0.2,) * 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Augmentation(pad=-1), "pad is -1"),
        (lambda: Augmentation(padding="edge"), "'zeros', 'reflect'"),
        (lambda: Augmentation(crop="cut"), "'shift', 'resized'"),
        (lambda: Augmentation(scale=0.0), "scale is 0.0"),
        (lambda: Augmentation(7, "reflect")(some(), generator()), "6 pixels at most"),
        (lambda: Augmentation()(some().float(), generator()), "torch.uint8"),
        (lambda: Augmentation()(some()[0], generator()), r"\[N, C, H, W\]"),
        (lambda: normalise(some().float(), (0.5,) * 3, (0.2,) * 3), "torch.uint8"),
        (lambda: normalise(some(), (0.5,), (0.2,) * 3), "3 channels"),
        (lambda: normalise(some(), (0.5,) * 3, (0.2,)), "3 channels"),
        (lambda: normalise(some(), (0.5,) * 3, (0.2, 0.0, 0.2)), "above zero"),
        (lambda: normalise(some(), (0.5,) * 3, (0.2,) * 3, torch.int32), "floating point"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_normalise_is_the_formula_rounded_once(dtype):
    mean, std = (0.49, 0.48, 0.44), (0.25, 0.24, 0.26)
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    out = normalise(images, mean, std, dtype)
    exact = (images.double() / 255 - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).double().view(
        3, 1, 1
    )
    assert out.dtype == dtype
    half_step = max(torch.finfo(dtype).eps / 2, 2e-6)
    torch.testing.assert_close(out.double(), exact, rtol=half_step, atol=2e-6)


def test_normalise_keeps_or_sets_the_memory_format():
    images, values = some(), ((0.5,) * 3, (0.2,) * 3)
    last = torch.channels_last
    assert normalise(images, *values).is_contiguous()
    assert normalise(images.contiguous(memory_format=last), *values).is_contiguous(memory_format=last)
    assert normalise(images, *values, memory_format=last).is_contiguous(memory_format=last)


def test_resized_crops_cut_parts_of_the_area_asked_for():
    """Of an image whose first channel is the row and whose second is the column, crops tell where they were cut."""
    side, n = 64, 4000
    ramp = torch.arange(side, dtype=torch.uint8) * 4
    image = torch.stack([ramp[:, None].expand(side, side), ramp.expand(side, side), torch.zeros(side, side).byte()])
    crops = Augmentation(crop="resized", scale=0.25)(image.expand(n, -1, -1, -1), generator(), 32).float()
    assert crops.shape == (n, 3, 32, 32)
    # From the middle of the first to the middle of the last of 32 pixels are 31/32 of the side.
    tall = (crops[:, 0, -1, 16] - crops[:, 0, 0, 16]) * 32 / 31 / (4 * side)
    wide = (crops[:, 1, 16, -1] - crops[:, 1, 16, 0]) * 32 / 31 / (4 * side)
    assert 0.45 < float((wide < 0).float().mean()) < 0.55  # mirrored
    area = tall * wide.abs()
    assert float(tall.min()) > 0.4  # sqrt(1/4 * 3/4)
    assert 0.22 < float(area.min()) < 0.3
    assert float(area.max()) > 0.9
    ratio = (wide.abs() / tall)[(tall < 0.97) & (wide.abs() < 0.97)]
    assert 0.7 < float(ratio.min()) < 0.8
    assert 1.25 < float(ratio.max()) < 1.42
    assert torch.equal(crops[:, 2], torch.zeros_like(crops[:, 2]))
    again = Augmentation(crop="resized", scale=0.25)(image.expand(n, -1, -1, -1), generator(), 32).float()
    assert torch.equal(crops, again)
