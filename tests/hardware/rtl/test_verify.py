"""The RTL gives the integers of the reference and counts what the simulator says, whatever memory does."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.hardware.rtl.bugs import BUGS, PARTIAL_BUGS, Buggy, with_bugs
from tests.hardware.rtl.layers import random_completion, random_masks, random_program

import convgate
from convgate.errors import ConvgateError, InputError, MissingDependencyError
from convgate.hardware import accelerator
from convgate.hardware.rtl import counters, verify
from convgate.hardware.rtl.tools import verilator
from convgate.hardware.rtl.verify import parameters
from convgate.hardware.workload import Workload
from convgate.models import create

MACHINE = accelerator("dgnet-ultra96", rows=4, columns=3, index_bits=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One model for all tests: the sources with bugs that are off."""
    try:
        verilator()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    shared = tmp_path_factory.getbasetemp().parent / "rtl"  # by all workers
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(shared))
        sizes = parameters(Workload.of(random_program(np.random.default_rng(0))), MACHINE)
        with Buggy(sizes, with_bugs(tmp_path_factory.mktemp("sources"))) as running:
            yield running


def try_layers(model, seeds, resting):
    """(program, what was found) for random layers and masks."""
    rng = np.random.default_rng(resting)
    for seed in range(seeds):
        program = random_program(rng)
        images = rng.standard_normal((2, *program.value("images").shape)).astype(np.float32) * 40
        masks = random_masks(program, 2, rng)
        yield verify(program, images, MACHINE, masks, resting=resting, seed=seed, model=model)


def try_completions(model, seeds, resting):
    """The same for partial sums, of random images and of one of zeros."""
    rng = np.random.default_rng(resting)
    for seed in range(seeds):
        program = random_completion(rng, MACHINE.rows, MACHINE.columns)
        images = rng.standard_normal((2, *program.value("images").shape)).astype(np.float32) * 40
        images[1] *= seed % 2
        yield verify(program, images, MACHINE, resting=resting, seed=seed, model=model)


@pytest.mark.parametrize("resting", [0, 40])
def test_random_partial_sums(model, resting):
    for found in try_completions(model, 30, resting):
        assert found.passed, [layer for layer in found.layers if layer.wrong or layer.differing]
        assert not found.host


@pytest.mark.parametrize("resting", [0, 40])
def test_random_layers_and_masks(model, resting):
    for found in try_layers(model, 25, resting):
        assert found.passed, [layer for layer in found.layers if layer.wrong or layer.differing]
        assert not found.host
        assert found.compared == len(found.layers) * (len(counters()) - 1 + 4)  # all but cycles of memory, and bursts


def test_bursts_of_another_length_are_not_compared_and_that_is_said(model):
    rng = np.random.default_rng(0)
    program = random_program(rng)
    images = rng.standard_normal((1, *program.value("images").shape)).astype(np.float32) * 40
    found = verify(program, images, dataclasses.replace(MACHINE, dram_burst_bytes=32), model=model)
    assert found.passed
    assert found.not_compared == ("bursts",)
    assert found.compared == len(found.layers) * (len(counters()) - 1)
    assert verify(program, images, MACHINE, model=model).not_compared == ()


@pytest.mark.parametrize("heads", [None, 0])
def test_a_gated_network(model, heads):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    net = convgate.gate(create("cifar_resnet8").eval(), convgate.DualGating(group=2), images).eval()
    engine = convgate.quantize(net, [images], heads=heads)
    masks = random_masks(engine.program, 1, np.random.default_rng(0))
    found = verify(engine.program, images[:1].numpy(), MACHINE, masks, model=model)
    assert found.passed, [layer for layer in found.layers if layer.wrong or layer.differing]
    assert len(found.layers) == 10
    assert all(layer.cycles == layer.simulated > 0 for layer in found.layers)
    assert verify(engine.program, images[:1].numpy(), MACHINE, model=model).passed  # its own decisions


def test_a_network_of_partial_sums(model):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    net = convgate.gate(create("cifar_resnet8", width=8).eval(), convgate.ChannelGating(threshold=0.5), images).eval()
    program = convgate.quantize(net, [images], threads=1).program
    x = images[:1].numpy()
    found = verify(program, x, MACHINE, resting=20, model=model)
    assert found.passed, [layer for layer in found.layers if layer.wrong or layer.differing]
    assert not found.host
    assert len(found.layers) == 10
    gate = program.gates[0]
    with pytest.raises(InputError, match=rf"decides {gate.name} itself"):
        verify(program, x, MACHINE, {gate.name: np.ones((1, *gate.shape), np.uint8)}, model=model)


def test_partial_sums_that_the_rtl_has_no_form_for_are_left_to_the_host(model):
    """Units of a gate in two blocks of columns; one base path for all outputs."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    for method in (convgate.ChannelGating(group=2, convs="first"), convgate.ChannelGating(groups=False, convs="first")):
        net = convgate.gate(create("cifar_resnet8", width=4).eval(), method, images).eval()
        found = verify(convgate.quantize(net, [images], threads=1).program, images[:1].numpy(), MACHINE, model=model)
        assert found.passed
        assert set(found.host) == {f"layer{i}.0.conv1" for i in (1, 2, 3)}


@pytest.mark.parametrize("bug", BUGS)
def test_bugs_are_caught(model, bug):
    model.bug = list(BUGS).index(bug) + 1
    try:
        tries = try_completions if bug in PARTIAL_BUGS else try_layers
        assert not all(found.passed for found in tries(model, 60, 0))
    except ConvgateError:  # it does not end, or asks for memory that is not there
        model.close()
    finally:
        model.bug = 0


def test_what_the_rtl_cannot_do_is_refused():
    program = random_program(np.random.default_rng(0))
    images = np.zeros((1, *program.value("images").shape), np.float32)
    with pytest.raises(InputError, match=r"output_latency_cycles is 5, and has to be 6$"):
        verify(program, images, accelerator("dgnet-ultra96", output_latency_cycles=5))
    with pytest.raises(InputError, match="exceed the buffers"):
        verify(program, images, accelerator("dgnet-ultra96", rows=4, columns=64, sum_buffer_kib=1))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x: x[:0], "N >= 1"),
        (lambda x: x * np.float32("nan"), "not finite"),
        (lambda x: x.astype(np.uint8), "of uint8; it takes float32"),
        (lambda x: np.concatenate([x, x], 1), "of shape"),
        (lambda x: np.concatenate([x, x], 2), "at the size that it was made for"),
        (lambda x: x[0], "of shape"),
    ],
    ids=["none", "not finite", "other type", "other channels", "other size", "one without a batch"],
)
def test_images_that_the_program_does_not_take_are_refused_before_anything_is_built(change, match, monkeypatch):
    monkeypatch.setattr("convgate.hardware.rtl.model.build", lambda *_: pytest.fail("a model is built"))
    program = random_program(np.random.default_rng(0))
    images = np.ones((1, *program.value("images").shape), np.float32)
    with pytest.raises(InputError, match=match):
        verify(program, change(images), MACHINE)


def test_a_network_with_dilated_masks_is_refused_by_name():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    method = convgate.DualGating(dilated=True, tile=1, channel=False)
    net = convgate.gate(create("cifar_resnet8", width=4).eval(), method, images).eval()
    program = convgate.quantize(net, [images], threads=1).program
    with pytest.raises(InputError, match=r"layer1.0.conv1: its mask of tiles is dilated"):
        verify(program, images[:1].numpy(), MACHINE)
