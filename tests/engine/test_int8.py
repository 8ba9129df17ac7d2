"""Programs of 8-bit integers, run natively, against the reference in NumPy: equal to the bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from tests.engine.programs import images, masks, programs
from tests.engine.test_small_maps import gated
from torch import nn

import convgate
from convgate.engine import Engine, instruction_sets, load
from convgate.engine.integer import IntegerNetwork
from convgate.engine.precision import Precision
from convgate.engine.program import (
    Constant,
    Conv,
    Decide,
    Dequantize,
    Element,
    Gate,
    IntegerAdd,
    IntegerConv,
    IntegerConvToFloat,
    IntegerMean,
    Lookup,
    Mask,
    Multiply,
    Pad,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    Program,
    Quantize,
    Slice,
    Value,
    decides,
)
from convgate.errors import InputError, ProgramError
from convgate.models import create
from convgate.quantization import MinMax
from convgate.quantization.quantize import quantize_program

ISAS = instruction_sets("int8")
RANDOM = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def agree(program, inputs, drawn, isa, threads=1):
    """Outputs, decisions and executed MACs of the engine are the reference's."""
    found = Engine(program, threads=threads, isa=isa).run(*inputs, given=drawn)
    wanted = Engine(program, threads=1, isa=isa, executor=IntegerNetwork).run(*inputs, given=drawn)
    for name, a, b in zip(program.outputs, found.outputs, wanted.outputs, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    for layer in program.layers:
        np.testing.assert_array_equal(found.by_layer[layer], wanted.by_layer[layer], err_msg=layer)
    return found


def quantised(program, *, tie, heads):
    """A random program in integers; the example is rejected where there is no such program."""
    if len(program.inputs) > 1:
        reject()
    try:
        return quantize_program(
            program,
            lambda: iter(images(program, 2, 1)),
            observer=MinMax(),
            keep=(),
            tie=tie,
            heads=heads,
            threads=1,
            isa="scalar",
        )
    except (InputError, ProgramError):  # nothing to quantise, numbers that are not finite, scales too far apart
        reject()


@pytest.mark.parametrize("isa", ISAS)
@RANDOM
@given(
    program=programs(),
    threads=st.integers(1, 3),
    batch=st.integers(1, 3),
    share=st.sampled_from((0.3, 0.7, 1.0)),
    tie=st.booleans(),
    heads=st.sampled_from((None, 0, 200)),
)
def test_random_programs(isa, program, threads, batch, share, tie, heads):
    drawn, inputs = masks(program, batch, share), images(program, batch)
    integers = quantised(program, tie=tie, heads=heads)
    found = agree(integers, inputs, drawn, isa, threads)
    # Executed MACs are float32's.
    plain = Engine(program, threads=1).run(*inputs, given=drawn)
    assert all(np.array_equal(found.by_layer[layer], plain.by_layer[layer]) for layer in program.layers)


class Drawn:
    """A program of one convolution of integers, or two, under gates; any geometry, signs, addends and scales."""

    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.values, self.gates, self.operations, self.arrays = [], [], [], {}

    def pick(self, *choices):
        return self.draw(st.sampled_from(choices))

    def integers(self, name, shape, element=None):
        value = Value(name, *shape, element or self.pick(Element.INT8, Element.UINT8), 0.05)
        self.values.append(value)
        return value

    def gate(self, kind, shape, group=1):
        """A gate whose masks are given."""
        name = f"g{len(self.gates)}"
        self.gates.append(Gate(name, kind, shape, group))
        self.values.append(Value(f"logits of {name}", *shape))
        self.arrays[name] = np.zeros(shape, np.float32)
        self.operations.append(Decide((f"logits of {name}",), name, name))
        return name

    def clamp(self, out):
        low, high = out.element.limits
        return int(self.rng.integers(low, 1)), int(self.rng.integers(1, high + 1))

    def rescale(self):
        return self.pick((1 << 14, 14), (20000, 15), (30000, int(self.rng.integers(1, 47))), (3, 1))

    def conv(self, x, channels, name, gates, most=80, to_float=False):
        kernel = self.pick((1, 1), (3, 3), (3, 3), (2, 3), (5, 1))
        stride, dilation = self.pick((1, 1), (1, 1), (2, 2), (1, 3)), self.pick((1, 1), (1, 1), (2, 1))
        pad = tuple(self.draw(st.integers(0, 2)) for _ in range(4))
        size = [
            (n + pad[i] + pad[i + 2] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
            for i, n in enumerate((x.height, x.width))
        ]
        if min(size) < 1:
            return None
        depthwise = self.draw(st.booleans()) and channels == x.channels
        groups = (
            x.channels if depthwise else self.pick(*(g for g in (1, 1, 1, 2) if channels % g == x.channels % g == 0))
        )
        w = self.rng.integers(-127, 128, (channels, x.channels // groups, *kernel)).astype(np.int8)
        self.arrays |= {f"{name}.w": w, f"{name}.b": self.rng.integers(-(2**12), 2**12, channels).astype(np.int32)}
        common = {
            "weight": f"{name}.w", "bias": self.pick(f"{name}.b", ""), "layer": name, "stride": stride,
            "dilation": dilation, "padding": pad, "groups": groups, **gates,
        }  # fmt: skip
        if depthwise and "in_channels" in gates and "out_channels" in gates:
            common["out_channels"] = common["in_channels"]
        if "positions" in gates:
            rows = tuple(int(self.rng.integers(1, n + 1)) for n in size)
            common["positions"] = self.gate("spatial", (1, *rows))
        if to_float:
            self.arrays[f"{name}.scale"] = self.rng.random(channels).astype(np.float32)
            out = Value(name, channels, *size)
            self.values.append(out)
            self.operations.append(IntegerConvToFloat((x.name,), name, **common, scale=f"{name}.scale"))
            return out
        out = self.integers(name, (channels, *size))
        spread = int(np.abs(w[0].astype(int)).sum()).bit_length() + 8
        near = np.clip(self.rng.integers(spread - 8, spread + 8, channels) + 7, 1, 46)
        shift = self.rng.integers(1, 47, channels) if self.draw(st.booleans()) else near
        self.arrays[f"{name}.m"] = self.rng.integers(1, 1 << 15, channels).astype(np.int32)
        self.arrays[f"{name}.s"] = shift.astype(np.int32)
        inputs = (x.name,)
        if self.draw(st.booleans()):
            addend = self.integers(f"{name}.addend", (channels, *size))
            images = Value(f"{name}.addend as float32", channels, *size)
            self.values.append(images)
            self.operations.append(Quantize((images.name,), addend.name))
            inputs = (x.name, addend.name)
        low, high = self.clamp(out)
        self.operations.append(
            IntegerConv(
                inputs,
                name,
                **common,
                multiplier=f"{name}.m",
                shift=f"{name}.s",
                addend=self.rescale(),
                low=low,
                high=high,
            )
        )
        return out

    def program(self):
        widths = (1, 3, 8, 15, 16, 33, 64, 70, 130)
        ins, between, outs = (self.pick(*widths) for _ in range(3))
        between = self.pick(between, ins)
        height, width = self.draw(st.integers(1, 11)), self.draw(st.integers(1, 11))
        start = Value("images", ins, height, width)
        self.values.append(start)
        x = self.integers("x", (ins, height, width))
        first = {"positions": ""} if self.draw(st.booleans()) else {}
        group = self.pick(1, 2, 4, 16)
        second, third = {}, {}
        if self.draw(st.booleans()):
            gate = self.gate("channel", (-(-between // group), 1, 1), group)
            first["out_channels"], second["in_channels"] = gate, gate
            if self.draw(st.booleans()):
                second.pop("in_channels")
        if self.draw(st.booleans()):
            second["out_channels"] = self.gate("channel", (-(-outs // group), 1, 1), group)
            third["in_channels"] = second["out_channels"]
        if self.draw(st.booleans()):
            first["in_channels"] = self.gate("channel", (-(-ins // group), 1, 1), group)
            x = self.masked(x, first["in_channels"])
        self.operations.append(Quantize(("images",), "x"))
        y = self.conv(x, between, "a", first)
        z = y and self.conv(y, outs, "b", second)
        end = z and self.conv(z, self.pick(5, outs), "c", third, to_float=True)
        if end is None:
            reject()
        written = {op.output for op in self.operations if not isinstance(op, Decide)}
        inputs = tuple(v.name for v in self.values if v.name not in written)
        more = []
        for value in (y, z):
            self.values.append(Value(f"{value.name} as float32", *value.shape))
            more.append(Dequantize((value.name,), f"{value.name} as float32"))
        first_decided = sorted(self.operations, key=lambda op: not isinstance(op, Decide | Quantize))
        return Program(
            tuple(self.values), tuple(self.gates), (*first_decided, *more), inputs,
            ("c", *(op.output for op in more)), self.arrays, ("a", "b", "c"),
        )  # fmt: skip

    def masked(self, x, gate):
        """Closed input channels hold zeros."""
        out = self.integers("masked", x.shape, x.element)
        self.operations.append(Mask(("x",), "masked", gate))
        return out


@st.composite
def convolutions(draw):
    return Drawn(draw).program()


@pytest.mark.parametrize("isa", ISAS)
@settings(RANDOM, max_examples=60)
@given(
    program=convolutions(),
    threads=st.integers(1, 3),
    share=st.sampled_from((0.0, 0.3, 0.7, 1.0)),
    seed=st.integers(0, 99),
)
def test_convolutions_of_any_geometry_under_gates(isa, program, threads, share, seed):
    # What a channel gate closes holds zeros only where the map was masked by it, as `masked` sees to.
    inputs = [3 * x for x in images(program, 2, seed)]
    agree(program, inputs, masks(program, 2, share, seed), isa, threads)


@pytest.mark.parametrize("isa", ISAS[:2])
@pytest.mark.parametrize(
    ("kernel", "height", "width", "channels", "tiles"),
    [
        # Positions beyond whole vectors of 16, where all are open: none, one, four, five, eight, thirteen.
        (3, 8, 8, 96, (4, 4)),
        (1, 7, 7, 132, (7, 7)),
        (3, 7, 7, 64, (1, 1)),
        (1, 14, 14, 140, (7, 7)),
        (1, 3, 23, 132, (3, 23)),
        (1, 8, 9, 257, (4, 3)),
        (3, 7, 11, 68, (7, 11)),
        # More inputs than are transposed at once, in groups of four vectors of positions and of three.
        (3, 8, 8, 132, (8, 8)),
        (3, 7, 7, 176, (7, 7)),
        # More positions than are computed at once.
        (1, 28, 29, 132, (14, 29)),
    ],
)
def test_positions_in_the_lanes(isa, kernel, height, width, channels, tiles):
    program = quantised(gated(kernel, height, width, channels, tiles), tie=False, heads=None)
    assert {Element.INT8, Element.UINT8} <= {program.value(op.inputs[0]).element for op in program.operations}
    for share, threads in ((0.0, 1), (0.2, 1), (0.6, 3), (1.0, 1), (1.0, 3), (0.6, 1)):
        agree(program, images(program, 2), masks(program, 2, share, seed=3), isa, threads)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("inputs", "weight"), [(1827, 127), (1827, -127), (1840, 127), (1840, -127)])
def test_the_largest_sums_of_a_3x3_kernel(isa, inputs, weight):
    """Of 1,827 inputs four times a sum fits into 32 bits, as Winograd's squares need; of more it may not."""
    follows = {"m": np.full(16, 1 << 14, np.int32), "s": np.full(16, 37, np.int32)}
    w = np.full((16, inputs, 3, 3), weight, np.int8)
    op = IntegerConv(
        ("x",), "y", "w", "", "conv", padding=(1,) * 4, multiplier="m", shift="s", low=-127, high=127
    )  # fmt: skip
    x, y = Value("x", inputs, 6, 6, Element.UINT8, 0.05), Value("y", 16, 6, 6, Element.INT8, 0.05)
    operations = (Quantize(("images",), "x"), op, Dequantize(("y",), "end"))
    values = (Value("images", inputs, 6, 6), x, y, Value("end", 16, 6, 6))
    program = Program(values, (), operations, ("images",), ("end",), {"w": w, **follows}, ("conv",))
    found = agree(program, [np.full((1, inputs, 6, 6), 13, np.float32)], {}, isa)
    assert np.abs(found.outputs[0]).max() == pytest.approx(0.05 * 9 * inputs * 255 * 127 * 2**14 / 2**37, abs=0.05)


def moved(op, before, after, element, **arrays):
    """One operation between quantising and its way back."""
    x, y = Value("x", *before, element, 0.05), Value("y", *after, element, 0.05)
    values = (Value("images", *before), x, y, Value("end", *after))
    operations = (Quantize(("images",), "x"), op, Dequantize(("y",), "end"))
    return Program(values, (), operations, ("images",), ("end",), arrays, ())


MOVES = {
    "maximum": (Pool(("x",), "y", "max", (3, 3), (2, 2), (1, 1)), (70, 9, 8), (70, 5, 4)),
    "dilated maximum": (Pool(("x",), "y", "max", (2, 2), (1, 1), (0, 0), (3, 2)), (5, 9, 8), (5, 6, 6)),
    "slice": (Slice(("x",), "y", -2), (6, 4, 5), (9, 4, 5)),
    "pad": (Pad(("x",), "y", (1, 2, 0, 1)), (6, 4, 5), (6, 5, 8)),
    "reflected": (Pad(("x",), "y", (1, 2, 0, 1), "reflect"), (6, 4, 5), (6, 5, 8)),
    "shuffle": (PixelShuffle(("x",), "y", 2), (12, 4, 5), (3, 8, 10)),
    "unshuffle": (PixelUnshuffle(("x",), "y", 2), (3, 8, 10), (12, 4, 5)),
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("element", [Element.INT8, Element.UINT8])
def test_what_is_not_a_convolution(element, isa):
    for name, (op, before, after) in MOVES.items():
        program = moved(op, before, after, element)
        found = agree(program, images(program, 2), {}, isa, 2)
        assert np.abs(found.outputs[0]).max() > 0, name
    rng = np.random.default_rng(0)
    table = rng.integers(*element.limits, 256).astype(element.value)
    program = moved(Lookup(("x",), "y", "t"), (70, 5, 3), (70, 5, 3), element, t=table)
    agree(program, [9 * x for x in images(program, 2)], {}, isa)
    low, high = element.limits
    for b in ((70, 5, 3), (70, 1, 1), (1, 5, 3)):
        add = IntegerAdd(("x", "b"), "y", (1 << 14, 30000), (14, 17), low, high)
        program = moved(add, (70, 5, 3), (70, 5, 3), element)
        values = (*program.values, Value("more", *b), Value("b", *b, Element.INT8, 0.02))
        program = replace(
            program,
            values=values,
            operations=(Quantize(("more",), "b"), *program.operations),
            inputs=("images", "more"),
        )
        agree(program, [4 * x for x in images(program, 2)], {}, isa, 2)
    for grid in ((1, 1), (2, 3)):
        program = moved(IntegerMean(("x",), "y", grid), (70, 5, 7), (70, *grid), element)
        values = tuple(
            replace(v, element=Element.FLOAT32, scale=1.0) if v.name == "y" else v for v in program.values[:3]
        )
        program = replace(program, values=values, operations=program.operations[:2], outputs=("y",))
        agree(program, images(program, 2), {}, isa, 2)


@pytest.mark.parametrize("method", [convgate.DualGating(), convgate.ChannelGating(), convgate.LayerSkipping()], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_methods_run_as_the_reference_does(method, isa):
    torch.manual_seed(0)
    x = torch.randn(3, 3, 32, 32)
    net = convgate.gate(create("cifar_resnet8", width=8).eval(), method, x).eval()
    engine = convgate.quantize(net, [x], threads=2, isa=isa)
    run = agree(engine.program, [x.numpy()], {}, isa, 2)
    plain = convgate.compile(net, threads=1).run(x.numpy(), given=run.decisions)
    assert np.array_equal(run.macs, plain.macs)


class Mobile(nn.Module):
    """An inverted residual block with a table between, and what follows it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.expand, self.depthwise, self.project = (
            nn.Conv2d(16, 72, 1),
            nn.Conv2d(72, 72, 3, 1, 1, groups=72),
            nn.Conv2d(72, 16, 1),
        )
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = nn.functional.relu6(self.stem(x))
        y = nn.functional.silu(self.depthwise(nn.functional.relu6(self.expand(x))))
        return self.fc((x + self.project(y)).mean((2, 3)))


class Inverted(nn.Module):
    """An inverted residual with squeeze-and-excitation behind activations by table, as in an EfficientNet."""

    def __init__(self, channels=24):
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(8, channels, 1), nn.Conv2d(channels, 8, 1)
        self.deep = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.down, self.up = nn.Conv2d(channels, 6, 1), nn.Conv2d(6, channels, 1)

    def forward(self, x):
        y = nn.functional.silu(self.deep(nn.functional.silu(self.wide(x))))
        scale = torch.sigmoid(self.up(torch.relu(self.down(y.mean((2, 3), keepdim=True)))))
        return x + self.narrow(scale * y)


@pytest.mark.parametrize("isa", ISAS)
def test_squeeze_and_excitation_on_open_channels_alone(isa):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 12, 12)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Inverted(), Inverted(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = convgate.gate(model.eval(), convgate.BatchShaping(), x[:1]).eval()
    program = convgate.quantize(network, [x]).program
    assert {Lookup, Dequantize, Multiply, Quantize} <= {type(op) for op in program.operations}
    assert any(getattr(op, "in_channels", "") and op.groups == 24 for op in program.operations)
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        drawn = {g.name: (rng.random((4, *g.shape)) < share).astype(np.uint8) for g in program.gates}
        agree(program, [x.numpy()], drawn, isa, threads=2)


def test_threads_batches_and_copies_make_no_difference(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(5, 3, 33, 30)
    engine = convgate.quantize(Mobile().eval(), [x], threads=1)
    assert engine.precision == Precision.INT8
    wanted = engine(x.numpy())
    np.testing.assert_array_equal(wanted, Engine(engine.program, threads=1, executor=IntegerNetwork)(x.numpy()))
    np.testing.assert_array_equal(Engine(engine.program, threads=3)(x.numpy()), wanted)
    np.testing.assert_array_equal(np.concatenate([engine(image[None].numpy()) for image in x]), wanted)
    engine.save(tmp_path / "net.cgm")
    np.testing.assert_array_equal(load(tmp_path / "net.cgm", threads=2)(x.numpy()), wanted)
    for isa in ISAS:
        np.testing.assert_array_equal(Engine(engine.program, threads=1, isa=isa)(x.numpy()), wanted)


def test_memory_and_what_stays_float32():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    net = convgate.gate(create("cifar_resnet8").eval(), convgate.DualGating(), x).eval()
    engine, plain = convgate.quantize(net, [x], threads=1), convgate.compile(net, threads=1)
    assert engine.explain().native_share == 1
    assert engine.activation_bytes <= 0.4 * plain.activation_bytes
    program = engine.program
    for op in program.operations:
        if decides(op):
            assert all(program.value(name).element is Element.FLOAT32 for name in op.inputs), "decisions are float32"
        elif isinstance(op, Conv):
            heads = op.layer.startswith("gates.")
            assert isinstance(op, IntegerConv | IntegerConvToFloat) != heads, op.layer


def test_instruction_sets_are_named():
    program = moved(*MOVES["slice"], Element.INT8)
    assert Engine(program, threads=1).isa == ISAS[0]
    with pytest.raises(InputError, match="this machine has"):
        Engine(program, isa="sse5")


def test_a_part_of_constants_alone_runs_between_integers():
    """Floats between integers are run as parts; one that only holds a constant reads no value."""
    values = (
        Value("x", 1, 2, 2),
        Value("q", 1, 2, 2, Element.INT8, 0.5),
        Value("c", 1, 1, 1),
        Value("f", 1, 2, 2),
        Value("y", 1, 2, 2),
    )
    operations = (
        Quantize(("x",), "q"),
        Constant((), "c", "k"),
        Dequantize(("q",), "f"),
        Multiply(("f", "c"), "y"),
    )
    program = Program(values, (), operations, ("x",), ("y",), {"k": np.full((1, 1, 1), 3.0, np.float32)}, ())
    x = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    for executor in ({}, {"executor": IntegerNetwork}):
        np.testing.assert_array_equal(Engine(program, threads=1, **executor)(x), 3 * x)
