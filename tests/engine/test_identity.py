"""Outputs are the same to the bit over numbers of threads and batches, and of many networks on AVX2 and AVX-512."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.programs import images, masks, programs

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


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(ISAS), reason="this machine has not both")
@pytest.mark.parametrize(("name", "size"), [("cifar_resnet8", 32), ("mobilenet_v2", 64)])
def test_avx2_and_avx512_agree_to_the_bit(name, size):
    """But for grouped convolutions that are not depthwise: whether they go by squares depends on the lanes."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, size, size)
    net = convgate.gate(create(name, num_classes=10).eval(), convgate.DualGating(), x).eval()
    program = convgate.compile(net, threads=1).program
    drawn = masks(program, 2, 0.6, seed=1)
    runs = [Engine(program, threads=1, isa=isa).run(x.numpy(), given=drawn).outputs for isa in ("avx2", "avx512")]
    assert same(*runs)
