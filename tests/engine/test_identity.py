"""Outputs are the same to the bit over numbers of threads and batches, and on AVX2 and AVX-512."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.programs import images, masks, programs
from torch import nn
from torchvision.models.convnext import LayerNorm2d

import convgate
from convgate.engine.engine import Engine
from convgate.engine.runtime import instruction_sets
from convgate.models import create

ISAS = instruction_sets()


def same(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(program=programs(), batch=st.integers(2, 4), share=st.sampled_from((0.3, 0.7, 1.0)), seed=st.integers(0, 99))
def test_threads_and_batches_change_no_bit(isa, program, batch, share, seed):
    x, drawn = images(program, batch, seed=seed), masks(program, batch, share, seed=seed)
    wanted = Engine(program, threads=1, isa=isa).run(*x, given=drawn).outputs
    for threads in (2, 3):
        engine = Engine(program, threads=threads, isa=isa)
        assert same(engine.run(*x, given=drawn).outputs, wanted), f"{threads} threads"
        for n in range(batch):
            one = engine.run(*(a[n : n + 1] for a in x), given={name: mask[n : n + 1] for name, mask in drawn.items()})
            assert same(one.outputs, [array[n : n + 1] for array in wanted]), f"sample {n} alone, {threads} threads"


@pytest.mark.parametrize("isa", instruction_sets("bf16"))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(program=programs(), batch=st.integers(2, 4), share=st.sampled_from((0.3, 0.7, 1.0)), seed=st.integers(0, 99))
def test_threads_and_batches_change_no_bit_in_bf16(isa, program, batch, share, seed):
    x, drawn = images(program, batch, seed=seed), masks(program, batch, share, seed=seed)
    wanted = Engine(program, threads=1, isa=isa, precision="bf16").run(*x, given=drawn).outputs
    engine = Engine(program, threads=3, isa=isa, precision="bf16")
    assert same(engine.run(*x, given=drawn).outputs, wanted)
    for n in range(batch):
        one = engine.run(*(a[n : n + 1] for a in x), given={name: mask[n : n + 1] for name, mask in drawn.items()})
        assert same(one.outputs, [array[n : n + 1] for array in wanted]), f"sample {n} alone"


x86 = pytest.mark.skipif(not {"avx2", "avx512"} <= set(ISAS), reason="this machine has not both")


def on_both(program, x, **options):
    return [Engine(program, threads=1, isa=isa).run(x.numpy(), **options) for isa in ("avx2", "avx512")]


@x86
@pytest.mark.parametrize(
    ("name", "size", "method"),
    [
        ("cifar_resnet8", 32, convgate.DualGating(init="paper", bias=0.0)),
        ("mobilenet_v2", 64, convgate.DualGating(init="paper", bias=0.0)),
        ("cifar_resnet8", 32, convgate.ChannelGating(init="paper")),
        ("cifar_resnet8", 32, convgate.GlobalGater(init="paper", gater="cifar_resnet8")),
    ],
)
def test_avx2_and_avx512_agree_to_the_bit(name, size, method):
    torch.manual_seed(0)
    x = torch.randn(2, 3, size, size)
    net = convgate.gate(create(name, num_classes=4).eval(), method, x).eval()
    program = convgate.compile(net, threads=1).program
    first, second = on_both(program, x, given=masks(program, 2, 0.6, seed=1))
    assert same(first.outputs, second.outputs)
    first, second = on_both(program, x)
    assert same(first.outputs, second.outputs)
    decided = [run.decisions.values() for run in (first, second)]
    assert 0 < np.mean([decision.mask.mean() for decision in decided[0]]) < 1
    assert same(*([decision.mask for decision in run] for run in decided))
    assert same(*([decision.logits for decision in run] for run in decided))


@x86
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(program=programs(), share=st.sampled_from((0.3, 0.7, 1.0)), seed=st.integers(0, 99))
def test_random_programs_agree_to_the_bit_on_avx2_and_avx512(program, share, seed):
    x, drawn = images(program, 2, seed=seed), masks(program, 2, share, seed=seed)
    runs = [Engine(program, threads=1, isa=isa).run(*x, given=drawn).outputs for isa in ("avx2", "avx512")]
    assert same(*runs)


LAYERS = [
    *((64, nn.Conv2d(64, n, 1)) for n in (1, 4, 6, 8, 9)),
    *(
        (n, nn.Conv2d(n, m, 3, padding=1))
        for n, m in ((8, 64), (10, 20), (12, 12), (16, 16), (37, 3), (64, 8), (128, 1))
    ),
    *((n, nn.Conv2d(n, n, 3, padding=1, groups=groups)) for n, groups in ((32, 2), (48, 4), (24, 24))),
    (20, nn.ConvTranspose2d(20, 12, 4, stride=2)),
    (512, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 4))),
    (20, nn.GroupNorm(4, 20)),
    (21, LayerNorm2d(21)),
    (19, nn.Softmax(dim=1)),
]


@x86
@pytest.mark.parametrize(("channels", "layer"), LAYERS, ids=str)
def test_each_layer_agrees_to_the_bit_on_avx2_and_avx512(channels, layer):
    torch.manual_seed(0)
    x = torch.randn(2, channels, 12, 12)
    first, second = on_both(convgate.compile(nn.Sequential(layer).eval(), x, threads=1).program, x)
    assert same(first.outputs, second.outputs)


# Weights that Winograd's algorithm keeps and does not keep, with squares along the lanes and across them.
@x86
@pytest.mark.parametrize(("channels", "size"), [(512, 7), (256, 14), (256, 28), (128, 28)])
def test_large_layers_agree_to_the_bit_on_avx2_and_avx512(channels, size):
    torch.manual_seed(0)
    x = torch.randn(1, channels, size, size)
    program = convgate.compile(nn.Conv2d(channels, channels, 3, padding=1).eval(), x, threads=1).program
    assert same(*[run.outputs for run in on_both(program, x)])
