"""Programs in bfloat16 against a reference that rounds at the same places; what is stored how, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.damage import rewrite
from tests.engine.interpreter import interpret
from tests.engine.programs import images, masks, programs

import convgate
from convgate.engine import Engine, instruction_sets, load
from convgate.engine.check import check
from convgate.engine.precision import Precision, from_bits, in_precision, to_bits
from convgate.engine.program import (
    Activate,
    Activation,
    Conv,
    Decide,
    Element,
    Gate,
    GroupNorm,
    PoolToGrid,
    Program,
    Value,
    form,
    serving_decisions,
    weight_element,
)
from convgate.errors import CheckpointError, InputError, ProgramError
from convgate.models import create

ISAS = instruction_sets("bf16")
RANDOM = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def rounded(x):
    return x.float().bfloat16().to(x.dtype)


def as_stored(program, inputs, decided):
    """The reference in double precision, each operation for itself, rounded where the definition rounds."""
    values, logits = dict(zip(program.inputs, map(torch.from_numpy, inputs), strict=True)), {}
    for name in program.inputs:
        values[name] = rounded(values[name]) if program.value(name).element is Element.BFLOAT16 else values[name]
    for operation in program.operations:
        reads, writes = form(program, operation)
        arrays = dict(program.arrays)
        weight = arrays.get(getattr(operation, "weight", ""))
        if isinstance(operation, Conv) and weight.dtype == np.uint16:
            arrays[operation.weight] = from_bits(weight)
        elif isinstance(operation, Conv) and weight_element(program, operation) is Element.BFLOAT16:
            arrays[operation.weight] = from_bits(to_bits(weight))
        given_values = []
        for number, name in enumerate(operation.inputs):
            wanted = writes if isinstance(operation, Conv) and number else reads
            given_values.append((name, rounded(values[name]) if wanted is Element.BFLOAT16 else values[name]))
        given_values = given_values or [(name, values[name]) for name in program.inputs]  # a constant
        alone = replace(
            program,
            operations=(operation,),
            inputs=tuple(dict(given_values)),
            outputs=() if isinstance(operation, Decide) else (operation.output,),
            arrays=arrays,
        )
        result = interpret(alone, dict(given_values).values(), decided, torch.float64)
        logits |= result.logits
        if operation.output in result.values:
            value = result.values[operation.output]
            stored = program.has(operation.output) and program.value(operation.output).element is Element.BFLOAT16
            values[operation.output] = rounded(value) if stored else value
    return values, logits


@pytest.mark.parametrize("isa", ISAS)
@RANDOM
@given(program=programs(), threads=st.integers(1, 3), batch=st.integers(1, 3), share=st.sampled_from((0.3, 0.7, 1.0)))
def test_random_programs(isa, program, threads, batch, share):
    """Whole programs: where a sum falls next to the middle of two numbers, a later value may differ by some of them."""
    engine = Engine(program, threads=threads, isa=isa, precision="bf16")
    drawn, inputs = masks(program, batch, share), images(program, batch)
    run = engine.run(*inputs, given=drawn)
    wanted, _ = as_stored(engine.program, inputs, drawn)
    for name, array in zip(program.outputs, run.outputs, strict=True):
        scale = max(1.0, float(wanted[name].abs().max()))
        assert np.abs(array - wanted[name].numpy()).max() <= 2**-5 * scale, name
    # Executed MACs are float32's.
    plain = Engine(program, threads=1).run(*inputs, given=drawn)
    assert all(np.array_equal(run.by_layer[layer], plain.by_layer[layer]) for layer in program.layers)


def one_conv(channels=24, out=19, kernel=3, activation="relu", size=9, **changes):
    rng = np.random.default_rng(0)
    groups = changes.get("groups", 1)
    weight = rng.standard_normal((out, channels // groups, kernel, kernel)).astype(np.float32)
    arrays = {"w": weight, "b": rng.standard_normal(out).astype(np.float32)}
    pad = kernel // 2
    op = Conv(("x",), "y", "w", "b", "conv", padding=(pad,) * 4, activation=Activation(activation), **changes)
    height = (size + 2 * pad - kernel) // op.stride[0] + 1
    values = (Value("x", channels, size, size), Value("y", out, height, height), Value("z", out, 1, 1))
    pool = PoolToGrid(("y",), "z")
    return Program(values, (), (op, pool), ("x",), ("y", "z"), arrays, ("conv",))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kernel": 1},
        {"groups": 24, "out": 24},
        {"groups": 2, "out": 18},
        {"stride": (2, 2)},
        {"activation": "silu"},
        {"channels": 300, "kernel": 1},
    ],
    ids=str,
)
def test_sums_are_those_of_rounded_numbers(isa, changes):
    """Sums of products of bfloat16 are as exact as float32's; a map is rounded once, to 1 unit of its last place."""
    program = in_precision(one_conv(**changes), "bf16")
    x = np.random.default_rng(1).standard_normal((2, *program.value("x").shape)).astype(np.float32)
    sums = Engine(program, threads=1, isa=isa)(x)[0]
    wanted, _ = as_stored(program, [x], {})
    y = wanted["y"].numpy()
    assert np.abs(sums - y).max() <= 2e-6 * np.abs(y).max() * np.sqrt(program.arrays["w"][0].size)
    # The same map, stored in bfloat16.
    stored = replace(program, values=tuple(replace(v, element=Element.BFLOAT16) for v in program.values))
    copy = Value("copy", *program.value("y").shape)
    operations = (stored.operations[0], Conv(("y",), "copy", "one", "", "copy", groups=copy.channels))
    whole = replace(
        stored,
        values=(*stored.values[:2], copy),
        operations=operations,
        outputs=("copy",),
        layers=("conv", "copy"),
        arrays={**stored.arrays, "one": np.ones((copy.channels, 1, 1, 1), np.float32)},
    )
    found = Engine(whole, threads=1, isa=isa)(x)
    unit = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(y), 1e-30))) - 7)
    assert (np.abs(found - rounded(torch.from_numpy(y)).numpy()) <= unit + 1e-5).all()
    assert np.array_equal(found, from_bits(to_bits(found)))


def between_gates(kernel, channels, out, size, *, whole, inputs="i"):
    """A convolution with closed positions, inputs and outputs between two others; `whole`: all its outputs are kept.

    `inputs`: the gate that closes inputs, or "".
    """
    rng = np.random.default_rng(0)
    gates = (Gate("p", "spatial", (1, 5, 5)), Gate("i", "channel", (channels, 1, 1)), Gate("o", "channel", (out, 1, 1)))
    values, operations, arrays = [Value("x", 3, size, size)], [], {}

    def conv(source, output, shape, side, **changes):
        arrays[output] = rng.standard_normal(shape).astype(np.float32)
        values.append(Value(output, shape[0], *side))
        pad = (shape[-1] // 2,) * 4
        operations.append(Conv((source,), output, output, "", output, padding=pad, **changes))

    for gate in gates:
        values.append(Value(f"pooled {gate.name}", 3, *gate.shape[1:]))
        operations.append(PoolToGrid(("x",), f"pooled {gate.name}"))
        conv(f"pooled {gate.name}", f"logits {gate.name}", (gate.shape[0], 3, 1, 1), gate.shape[1:])
        arrays[f"offset {gate.name}"] = np.zeros(gate.shape, np.float32)
        operations.append(Decide((f"logits {gate.name}",), gate.name, f"offset {gate.name}"))
    conv("x", "a", (channels, 3, 3, 3), (size, size), out_channels=inputs, activation=Activation("relu"))
    between = {"positions": "p", "in_channels": inputs, "out_channels": "o", "activation": Activation("relu")}
    conv("a", "y", (out, channels, kernel, kernel), (size, size), **between)
    conv("y", "z", (5, out, 1, 1), (size, size), in_channels="o")
    if whole:
        values.append(Value("r", out, size, size))
        operations.append(Activate(("y",), "r", Activation("relu")))
    outputs = ("z", "r") if whole else ("z",)
    layers = tuple(op.layer for op in operations if isinstance(op, Conv))
    return Program(tuple(values), gates, tuple(operations), ("x",), outputs, arrays, layers)


@pytest.mark.parametrize("isa", ISAS[:1])
@pytest.mark.parametrize(
    ("kernel", "channels", "out", "size"), [(3, 33, 130, 14), (1, 300, 128, 20), (3, 40, 200, 9), (3, 64, 128, 32)]
)
@pytest.mark.parametrize("inputs", ["i", ""], ids=["inputs can be closed", "all inputs"])
def test_positions_in_the_lanes_give_the_same_bits(isa, kernel, channels, out, size, inputs):
    """Where outputs are closed at many positions another kernel computes the same sums, in the same order.

    But for Winograd's, where the processor has no instruction for bfloat16: sums are float32's, and the map is rounded
    once.
    """
    in_same_order = kernel == 1 or isa.endswith("bf16")
    kept, left_out = (between_gates(kernel, channels, out, size, whole=whole, inputs=inputs) for whole in (True, False))
    x = np.random.default_rng(1).standard_normal((1, 3, size, size)).astype(np.float32)
    plain = Engine(left_out, threads=1)
    for share in (0.0, 0.05, 0.4, 0.8, 1.0):
        drawn = masks(left_out, 1, share, seed=2)
        wanted = Engine(kept, threads=1, isa=isa, precision="bf16").run(x, given=drawn).outputs[0]
        for threads in (1, 3):
            run = Engine(left_out, threads=threads, isa=isa, precision="bf16").run(x, given=drawn)
            allowed = 0 if in_same_order else 2**-7 * np.abs(wanted).max()
            assert np.abs(run.outputs[0] - wanted).max() <= allowed, (share, threads)
            macs = plain.run(x, given=drawn).by_layer
            assert all(np.array_equal(run.by_layer[layer], macs[layer]) for layer in macs)


def test_what_stays_float32():
    torch.manual_seed(0)
    net = convgate.gate(create("cifar_resnet8").eval(), convgate.DualGating(), torch.zeros(1, 3, 32, 32)).eval()
    engine = convgate.compile(net, threads=1, precision="bf16")
    assert engine.precision == Precision.BF16
    program = engine.program
    assert all(program.value(name).element is Element.FLOAT32 for name in program.outputs)
    for op in program.operations:
        if not program.has(op.output):
            assert all(program.value(name).element is Element.FLOAT32 for name in op.inputs), "decisions are float32"
    convs = [op for op in program.operations if isinstance(op, Conv)]
    heads = [op for op in convs if op.layer.startswith("gates.")]
    assert heads
    assert all(form(program, op)[0] is Element.FLOAT32 for op in heads)
    assert all(program.arrays[op.weight].dtype == np.uint16 for op in convs if op not in heads)
    assert all(program.arrays[op.bias].dtype == np.float32 for op in convs if op.bias)
    assert "bfloat16, to float32" in engine.describe()
    plain = convgate.compile(net, threads=1)
    assert "bfloat16" not in plain.describe()
    assert engine.activation_bytes <= 0.55 * plain.activation_bytes


def test_layers_of_heads_can_be_rounded():
    """Those with as many weights as asked for, and what they read; not logits, and not smaller layers."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    net = convgate.gate(create("cifar_resnet8").eval(), convgate.DualGating(), images).eval()
    for parameter in net.gates.parameters():  # heads start nearly at zero, so that all gates decide alike
        torch.nn.init.normal_(parameter, std=0.3)
    plain = convgate.compile(net, threads=1, precision="bf16")
    serving = serving_decisions(plain.program)
    sizes = {
        op.output: plain.program.arrays[op.weight].size for op in plain.program.operations if op.output in serving
        if isinstance(op, Conv)
    }  # fmt: skip

    def rounded(engine):
        return {
            op.output for op in engine.program.operations if op.output in sizes
            if engine.program.arrays[op.weight].dtype == np.uint16
        }  # fmt: skip

    assert rounded(plain) == set()
    least = sorted(sizes.values())[len(sizes) // 2]
    some = convgate.compile(net, threads=1, precision="bf16", heads=least)
    assert rounded(some) == {name for name, size in sizes.items() if size >= least} != sizes.keys()
    every = convgate.compile(net, threads=1, precision="bf16", heads=0)
    assert rounded(every) == sizes.keys()
    a, b = plain.run(images.numpy()), every.run(images.numpy())
    for gate, decision in a.decisions.items():
        error = np.abs(b.decisions[gate].logits - decision.logits).max() / np.abs(decision.logits).max()
        assert 0 < error < 0.02, gate
    masks = {gate: decision.mask for gate, decision in a.decisions.items()}
    np.testing.assert_array_equal(every.run(images.numpy(), given=masks).outputs[0], a.outputs[0])


def test_wrong_heads_are_refused():
    net, images = create("cifar_resnet8").eval(), torch.zeros(1, 3, 32, 32)
    with pytest.raises(InputError, match="heads=-1"):
        convgate.compile(net, images, precision="bf16", heads=-1)
    for precision in (None, "float32"):
        with pytest.raises(InputError, match="heads=0 goes with precision='bf16'"):
            convgate.compile(net, images, precision=precision, heads=0)


def test_depthwise_weights_are_not_rounded():
    rng = np.random.default_rng(0)
    program = one_conv(groups=24, out=24, channels=24)
    engine = Engine(program, threads=1, precision="bf16")
    weight = engine.program.arrays["w"]
    assert weight.dtype == np.float32
    x = rng.standard_normal((1, *program.value("x").shape)).astype(np.float32)
    kept = as_stored(engine.program, [x], {})[0]["y"].numpy()
    halves = replace(engine.program, arrays={**engine.program.arrays, "w": to_bits(weight)})
    lost = as_stored(halves, [x], {})[0]["y"].numpy()
    found = engine(x)[0]
    assert np.abs(found - kept).max() < 0.1 * np.abs(found - lost).max()


def test_what_has_no_form_says_so_and_is_right():
    rng = np.random.default_rng(0)
    program = one_conv(out=24)
    norm = GroupNorm(("y",), "n", "s", "t", 1e-5, groups=4)
    values = (*program.values, Value("n", *program.value("y").shape), Value("o", *program.value("y").shape))
    last = Conv(("n",), "o", "w2", "", "last")
    arrays = {
        **program.arrays,
        "s": np.ones(24, np.float32),
        "t": np.zeros(24, np.float32),
        "w2": rng.standard_normal((24, 24, 1, 1)).astype(np.float32),
    }
    program = replace(
        program, values=values, operations=(*program.operations, norm, last), outputs=("o", "z"), arrays=arrays,
        layers=("conv", "last"),
    )  # fmt: skip
    engine = Engine(program, threads=1, precision="bf16")
    assert "float32; converts what it reads; converts what it writes" in engine.describe()
    x = rng.standard_normal((1, *program.value("x").shape)).astype(np.float32)
    wanted, _ = as_stored(engine.program, [x], {})
    assert np.abs(engine(x)[0] - wanted["o"].numpy()).max() <= 2**-6 * float(wanted["o"].abs().max())


@pytest.mark.parametrize("method", [convgate.DualGating(), convgate.ChannelGating(), convgate.LayerSkipping()], ids=str)
def test_methods_run_and_stay_near(method):
    torch.manual_seed(0)
    x = torch.randn(3, 3, 32, 32)
    net = convgate.gate(create("cifar_resnet8").eval(), method, x).eval()
    plain, engine = (convgate.compile(net, threads=1, precision=p) for p in ("float32", "bf16"))
    run = plain.run(x.numpy())
    half = engine.run(x.numpy(), given=run.decisions)
    assert np.array_equal(half.macs, run.macs)
    assert np.abs(half.outputs[0] - run.outputs[0]).max() <= 0.03 * np.abs(run.outputs[0]).max()
    other = engine(torch.randn(1, 3, 48, 40).numpy())
    assert np.isfinite(other).all()


def test_what_is_not_a_number_stays_so():
    program = one_conv(activation="none")
    x = np.full((1, *program.value("x").shape), 3e38, np.float32)
    assert not np.isfinite(Engine(program, threads=1, precision="bf16")(x)[0]).any()


def test_pytorch_may_compute_a_part():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.b(torch.sort(self.a(x), dim=1).values)

    torch.manual_seed(0)
    net, x = Odd().eval(), torch.randn(1, 3, 10, 10)
    engine = convgate.compile(net, x, threads=1, fallback="torch", precision="bf16")
    wanted = net(x).detach().numpy()
    assert np.abs(engine(x.numpy()) - wanted).max() <= 0.02 * np.abs(wanted).max()


def test_files_carry_it(tmp_path):
    torch.manual_seed(0)
    net = convgate.gate(create("cifar_resnet8").eval(), convgate.DualGating(), torch.zeros(1, 3, 32, 32)).eval()
    x = torch.randn(2, 3, 32, 32).numpy()
    plain = convgate.compile(net, threads=1)
    half = convgate.compile(net, threads=1, precision="bf16")
    plain.save(tmp_path / "plain.cgm")
    half.save(tmp_path / "half.cgm")
    assert (tmp_path / "half.cgm").stat().st_size < 0.6 * (tmp_path / "plain.cgm").stat().st_size
    again = load(tmp_path / "half.cgm", threads=1)
    assert again.precision == "bf16"
    assert np.array_equal(again(x), half(x))
    assert np.array_equal(load(tmp_path / "plain.cgm", threads=1, precision="bf16")(x), half(x))
    with pytest.raises(InputError, match="compile it again"):
        load(tmp_path / "half.cgm", precision="float32")


def test_a_program_of_integers_is_in_the_precision_that_it_is_in(tmp_path):
    conv = torch.nn.Conv2d(3, 8, 3)
    convgate.quantize(torch.nn.Sequential(conv), [torch.randn(2, 3, 6, 6)], threads=1).save(tmp_path / "q.cgm")
    assert load(tmp_path / "q.cgm", precision="int8").precision == "int8"


def test_precisions_are_named():
    with pytest.raises(InputError, match="'float32' or 'bf16'"):
        Engine(one_conv(), precision="half")
    with pytest.raises(InputError, match="convgate"):
        Engine(one_conv(), precision="int8")
    with pytest.raises(InputError, match="this machine has"):
        Engine(one_conv(), precision="bf16", isa="sse5")


BROKEN = {
    "an output in bfloat16": lambda p: replace(p, values=tuple(replace(v, element=Element.BFLOAT16) for v in p.values)),
    "a scale": lambda p: replace(p, values=(replace(p.values[0], scale=2.0), *p.values[1:])),
    "weights that are not finite": lambda p: replace(p, arrays={**p.arrays, "w": p.arrays["w"] | 0x7F80}),
    "halves where float32 is computed": lambda p: replace(
        p, values=tuple(replace(v, element=Element.FLOAT32) for v in p.values)
    ),
    "a bias of halves": lambda p: replace(p, arrays={**p.arrays, "b": to_bits(p.arrays["b"])}),
    "weights of another shape": lambda p: replace(p, arrays={**p.arrays, "w": p.arrays["w"][:-1]}),
    "weights of another type": lambda p: replace(p, arrays={**p.arrays, "w": p.arrays["w"].view(np.int16)}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_programs_are_refused(what):
    program = in_precision(one_conv(), "bf16")
    check(program)
    with pytest.raises(ProgramError):
        check(BROKEN[what](program))


def test_damaged_files_are_refused(tmp_path):
    engine = Engine(one_conv(), threads=1, precision="bf16")
    engine.save(tmp_path / "half.cgm")
    for element in ("bfloat17", "int8", None, 3, ["bfloat16"]):

        def change(data, arrays, element=element):
            data["values"][1]["element"] = element

        path = rewrite(tmp_path / "half.cgm", change)
        with pytest.raises(CheckpointError):
            load(path)


@pytest.mark.parametrize("isa", ISAS)
def test_where_nothing_can_be_stored_in_it_a_program_is_float32s(isa):
    """Kernels are asked for by the precision that was wanted: its name for them is good for float32, too."""
    conv = Conv(("x",), "y", "w", "", "conv")
    values = (Value("x", 2, 1, 1), Value("y", 1, 1, 1))
    program = Program(values, (), (conv,), ("x",), ("x", "y"), {"w": np.ones((1, 2, 1, 1), np.float32)}, ("conv",))
    engine = Engine(program, threads=1, isa=isa, precision="bf16")
    x = np.array([1.0, 2.0], np.float32).reshape(1, 2, 1, 1)
    assert engine.precision == "float32"
    assert engine(x)[1].item() == 3.0
