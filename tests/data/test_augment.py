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
