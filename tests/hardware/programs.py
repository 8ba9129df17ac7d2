"""Programs of small gated networks with decisions at random, for the tests of the simulator."""

import atexit
from functools import cache

import numpy as np
import torch

import convgate
from convgate.hardware import Trace, accelerator, simulate
from convgate.models import create

METHODS = {
    "dual": lambda: convgate.DualGating(),
    "dual_dilated": lambda: convgate.DualGating(dilated=True, tile=3),
    "dual_filled": lambda: convgate.DualGating(filled=True),
    "dual_by_groups": lambda: convgate.DualGating(group=8),
    "channel": lambda: convgate.ChannelGating(),
    "channel_by_groups": lambda: convgate.ChannelGating(group=8),
    "channel_first": lambda: convgate.ChannelGating(groups=False, partitions=2),
    "batch_shaping": lambda: convgate.BatchShaping(),
    "layer_skipping": lambda: convgate.LayerSkipping(),
    "global_gater": lambda: convgate.GlobalGater(),
    "combined": lambda: convgate.Combined(convgate.DualGating(), penalties=[convgate.BatchShaping()]),
}


@cache
def engine_of(method, model="cifar_resnet8", size=16):
    """(engine, network) of a model with the gates of a method."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, size, size)
    net = convgate.gate(create(model).eval(), METHODS[method](), images).eval()
    return convgate.compile(net, threads=1), net


atexit.register(engine_of.cache_clear)  # or the native library takes what is kept for leaks


def images_of(program, count, seed=0):
    value = program.value(program.inputs[0])
    return np.random.default_rng(seed).standard_normal((count, *value.shape)).astype(np.float32)


def masks_of(program, count, share=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return {gate.name: (rng.random((count, *gate.shape)) < share).astype(np.uint8) for gate in program.gates}


def trace_of(program, count, share=0.5, seed=0):
    return Trace.of(program, masks_of(program, count, share, seed))


def simulated(method, count, machine="dgnet-ultra96"):
    """A small network of a method on a machine, with decisions at random for `count` images."""
    program = engine_of(method)[0].program
    return simulate(program, trace_of(program, count), accelerator(machine))
