"""Programs that do not hold together are refused, rule by rule, before the runtime sees them."""

from dataclasses import replace

import numpy as np
import pytest

from convgate.engine.check import check
from convgate.engine.engine import Engine
from convgate.engine.program import (
    Activate,
    Activation,
    Add,
    Affine,
    Arithmetic,
    Complete,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Decide,
    Gate,
    GroupNorm,
    Interpolate,
    LayerNorm,
    Mask,
    Multiply,
    OverChannels,
    Pad,
    Pick,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    PoolToGrid,
    PRelu,
    Program,
    Reshape,
    Slice,
    Softmax,
    Value,
)
from convgate.errors import ProgramError


def one_of_each():
    """A program with every kind of operation."""
    rng = np.random.default_rng(0)

    def array(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    values = {
        "x": (4, 9, 9), "a": (6, 5, 5), "grid": (6, 2, 2), "tiles": (1, 2, 2), "mean": (6, 1, 1), "units": (3, 1, 1),
        "b": (6, 5, 5), "sum": (6, 5, 5), "d": (6, 5, 5), "e": (6, 5, 5), "f": (6, 5, 5), "g": (6, 5, 5),
        "h": (12, 5, 5), "i": (5, 5, 5), "j": (5, 2, 2), "k": (5, 3, 3), "y": (7, 1, 1), "picked": (4, 5, 5),
        "whole": (6, 5, 5), "p": (6, 5, 5), "q": (6, 7, 12), "rows": (6, 7, 1), "r": (6, 7, 12),
        "t": (4, 11, 11), "pad": (4, 12, 12), "deep": (16, 6, 6), "wide": (4, 12, 12), "flat": (1, 24, 24),
        "groups": (1, 24, 24), "layer": (1, 24, 24), "soft": (1, 24, 24), "over": (1, 24, 24),
    }  # fmt: skip
    operations = (
        Conv(
            ("x",),
            "a",
            "w.a",
            "b.a",
            "conv",
            stride=(2, 2),
            padding=(1, 1, 1, 1),
            groups=2,
            activation=Activation("relu"),
        ),
        PoolToGrid(("a",), "grid"),
        Conv(("grid",), "tiles", "w.tiles", "b.tiles", "gates.s"),
        Decide(("tiles",), "s", "offset.s"),
        PoolToGrid(("a",), "mean"),
        Conv(("mean",), "units", "w.units", "", "gates.c"),
        Decide(("units",), "c", "offset.c"),
        Conv(("a",), "b", "w.b", "b.b", "gated", positions="s", out_channels="c", padding=(1, 1, 1, 1)),
        Conv(("b", "a"), "sum", "w.c", "b.c", "reads", in_channels="c", activation=Activation("relu")),
        Mask(("sum",), "d", "s"),
        Affine(("d",), "e", "scale", "shift", Activation("silu")),
        Add(("e", "mean"), "f", Activation("relu6")),
        Multiply(("f", "mean"), "g"),
        Concat(("g", "a"), "h"),
        Slice(("h",), "i", 9),
        Pool(("i",), "j", "max", (3, 2), (2, 2), (0, 0)),
        Pool(("i",), "k", "average", (2, 2), (2, 2), (1, 1), count_padding=False),
        Conv(("j",), "y", "w.y", "b.y", "fc"),
        Pick(("h",), "picked", (11, 0, 3, 3)),
        Decide(("a",), "each", "offset.a", "scale", "shift", strict=True),
        PRelu(("e",), "p", "scale"),
        Interpolate(("p",), "q", "bilinear", scales=(1.5, 2.5)),
        Constant((), "rows", "rows"),
        Arithmetic(("rows", "q"), "r", "maximum"),
        ConvTranspose(("e",), "t", "w.t", "", "up", (2, 2), (0, 0), (1, 1), groups=2),
        Pad(("t",), "pad", (0, 1, 1, 0), "reflect"),
        PixelUnshuffle(("pad",), "deep", 2),
        PixelShuffle(("deep",), "wide", 2),
        Reshape(("wide",), "flat"),
        GroupNorm(("flat",), "groups", "", "", 1e-5),
        LayerNorm(("groups",), "layer", "", "", 1e-5),
        Softmax(("layer",), "soft"),
        OverChannels(("soft",), "over", maximum=True),
        Complete(("picked", "a", "b"), "whole", "w.whole", "part", "each", parts=2, scale="scale", open_shift="shift"),
    )
    arrays = {
        "w.a": array(6, 2, 3, 3), "b.a": array(6), "w.tiles": array(1, 6, 1, 1), "b.tiles": array(1),
        "offset.s": array(1, 2, 2), "w.units": array(3, 6, 1, 1), "offset.c": array(3, 1, 1), "w.b": array(6, 6, 3, 3),
        "b.b": array(6), "w.c": array(6, 6, 1, 1), "b.c": array(6), "scale": array(6), "shift": array(6),
        "rows": array(6, 7, 1), "w.t": array(6, 2, 2, 2),
        "w.y": array(7, 5, 2, 2), "b.y": array(7), "offset.a": array(3, 1, 1), "w.whole": array(6, 2, 1, 1),
    }  # fmt: skip
    return Program(
        values=tuple(Value(name, *dims) for name, dims in values.items()),
        gates=(
            Gate("s", "spatial", (1, 2, 2)),
            Gate("c", "channel", (3, 1, 1), 2),
            Gate("each", "activation", (3, 5, 5), 2),
        ),
        operations=operations,
        inputs=("x",),
        outputs=("y", "k", "whole", "r"),
        arrays=arrays,
        layers=("conv", "gated", "reads", "fc", "part", "up", "gates.s", "gates.c"),
        vectors=("y",),
    )


def operation(written, /, **fields):
    """A change: fields of the operation that writes `written`."""

    def change(program):
        assert any(op.output == written for op in program.operations)
        changed = (replace(op, **fields) if op.output == written else op for op in program.operations)
        return replace(program, operations=tuple(changed))

    return change


def value(name, /, **fields):
    return lambda p: replace(p, values=tuple(replace(v, **fields) if v.name == name else v for v in p.values))


def gate(name, /, **fields):
    return lambda p: replace(p, gates=tuple(replace(g, **fields) if g.name == name else g for g in p.gates))


def array(name, changed):
    return lambda p: replace(p, arrays={**p.arrays, name: changed(p.arrays[name])})


def program(**fields):
    return lambda p: replace(p, **fields)


def without(output):
    return lambda p: replace(p, operations=tuple(op for op in p.operations if op.output != output))


BROKEN = {
    # names
    "no inputs": program(inputs=()),
    "no outputs": program(outputs=()),
    "input twice": program(inputs=("x", "x")),
    "unknown input": program(inputs=("nothing",)),
    "unknown output": program(outputs=("nothing",)),
    "output never written": without("y"),
    "vector that is no output": program(vectors=("mean",)),
    "vector that is a map": program(vectors=("y", "k")),
    "two values of one name": value("y", name="x"),
    "two gates of one name": gate("s", name="c"),
    "two layers of one name": program(layers=("conv", "conv", "gated", "reads", "fc", "part", "gates.s", "gates.c")),
    "reads what is not written": operation("a", inputs=("sum",)),
    "reads what does not exist": operation("a", inputs=("nothing",)),
    "reads itself": operation("d", inputs=("d",)),
    "reads nothing": operation("d", inputs=()),
    "writes what does not exist": operation("e", output="nothing"),
    "writes twice": operation("e", output="d"),
    "writes an input": operation("e", output="x"),
    "layer that does not exist": operation("a", layer="nothing"),
    # sizes
    "no channels": value("x", channels=0),
    "negative height": value("x", height=-9),
    "height that is no number": value("x", height=9.0),
    "too many positions": value("k", height=1 << 11, width=1 << 11),
    "too many channels": value("i", channels=1 << 25),
    "too much together": lambda p: replace(
        p, values=(*p.values, *(Value(f"large {i}", 1 << 10, 1 << 10, 1 << 10) for i in range(3)))
    ),
    # gates
    "unknown kind of gate": gate("s", kind="temporal"),
    "gate without rows": gate("s", shape=(1, 0, 2)),
    "gate of two dimensions": gate("s", shape=(2, 2)),
    "gate of groups of none": gate("c", group=0),
    "channel gate with columns": gate("c", shape=(3, 1, 2)),
    "spatial gate with units": gate("s", shape=(2, 2, 2)),
    "gate with too few units": gate("c", group=1),
    "gate with too many units": gate("c", group=6),
    "undecided gate": without("s"),
    "gate decided later": lambda p: replace(p, operations=(p.operations[0], p.operations[7], *p.operations[1:7])),
    "gate decided twice": lambda p: replace(p, operations=(*p.operations[:4], *p.operations[3:])),
    "logits of another shape": operation("s", inputs=("mean",)),
    "offset of another shape": array("offset.s", lambda a: a.reshape(4, 1, 1)),
    "positions by a channel gate": operation("b", positions="c"),
    "positions out of reach": operation("b", reach=(-1, 0)),
    "a mask out of reach": operation("d", reach=(0, 1 << 30)),
    "a reach without a mask": operation("a", reach=(1, 1)),
    "outputs by a spatial gate": operation("b", out_channels="s"),
    "inputs by a spatial gate": operation("sum", in_channels="s"),
    "gate that does not exist": operation("d", gate="nothing"),
    "gate of a convolution that does not exist": operation("b", positions="nothing"),
    # convolutions
    "groups that do not divide": operation("a", groups=3),
    "no groups": operation("a", groups=0),
    "no stride": operation("a", stride=(0, 2)),
    "no dilation": operation("a", dilation=(0, 1)),
    "negative padding": operation("a", padding=(-1, 1, 1, 1)),
    "far padding": operation("a", padding=(1 << 30, 1, 1, 1)),
    "other padding": operation("a", padding=(1, 3, 1, 1)),
    "other output": value("a", height=4),
    "weights missing": operation("a", weight="nothing"),
    "weights of another shape": array("w.a", lambda a: a[:, :1]),
    "weights of another rank": array("w.a", lambda a: a[..., 0]),
    "weights of another type": array("w.a", lambda a: a.astype(np.float64)),
    "kernel of no size": array("w.a", lambda a: a[:, :, :0]),
    "bias of another shape": array("b.a", lambda a: a[:5]),
    "bias missing": operation("a", bias="nothing"),
    "three inputs": operation("sum", inputs=("b", "a", "a")),
    "addend of another shape": operation("sum", inputs=("b", "mean")),
    "unknown activation": operation("a", activation=Activation("tangent")),
    "activation without its parameters": operation("a", activation=Activation("leaky_relu")),
    "activation as a string": operation("a", activation="relu"),
    "parameter that is not a number": operation("a", activation=Activation("leaky_relu", (float("nan"),))),
    "activation that masks do not allow": operation("b", activation=Activation("sigmoid")),
    # convolutions in part
    "activation gate as a mask": operation("d", gate="each"),
    "activation gate of other positions": gate("each", shape=(3, 5, 4)),
    "activation gate with too few units": gate("each", group=1),
    "activation gate decided by too few channels": operation("each", inputs=("picked",), scale="", shift=""),
    "logits of a spatial gate scaled": operation("s", scale="b.tiles"),
    "threshold of another shape": array("offset.a", lambda a: a[:, :, 0]),
    "logits' scale of another shape": operation("each", scale="b.y"),
    "completed by a spatial gate": operation("whole", gate="s"),
    "completed by no gate": operation("whole", gate=""),
    "completed without sums": operation("whole", inputs=("picked",)),
    "completed with four inputs": operation("whole", inputs=("picked", "b", "b", "b")),
    "sums of another shape": operation("whole", inputs=("picked", "mean")),
    "parts that do not divide": operation("whole", parts=3),
    "all parts": operation("whole", parts=1),
    "completed by weights of another shape": array("w.whole", lambda a: a[:, :1]),
    "completed in another geometry": operation("whole", stride=(2, 2)),
    "scale of a completed sum of another shape": operation("whole", open_scale="b.y"),
    "completed on no layer": operation("whole", layer="nothing"),
    "picks too few": operation("picked", channels=(1, 2, 3)),
    "picks what is not there": operation("picked", channels=(1, 2, 3, 12)),
    "picks a negative number": operation("picked", channels=(-1, 2, 3, 4)),
    # the rest
    "unknown kind of pool": operation("j", kind="sum"),
    "pool of another stride": operation("j", stride=(1, 1)),
    "pool that changes channels": operation("j", inputs=("h",)),
    "pool that begins past the map": value("k", height=4),
    "pool of two inputs": operation("j", inputs=("i", "i")),
    "grid that changes channels": operation("grid", inputs=("x",)),
    "scale of another shape": array("scale", lambda a: a[:5]),
    "affine that changes shape": operation("e", inputs=("x",)),
    "sum of one": operation("f", inputs=("e",)),
    "transposed weights of another shape": operation("t", weight="w.y"),
    "output padding as wide as the stride": operation("t", output_padding=(2, 1)),
    "transposed convolution of another size": operation("t", padding=(1, 1)),
    "groups of a transposed convolution": operation("t", groups=3),
    "reflection of more than there is": operation("pad", padding=(0, 11, 1, -10)),
    "reflection that crops": operation("pad", padding=(-1, 1, 2, 0)),
    "unknown padding mode": operation("pad", mode="mirror"),
    "padding to another size": operation("pad", padding=(0, 1, 1, 1)),
    "unshuffled by another factor": operation("deep", factor=3),
    "shuffled by another factor": operation("wide", factor=4),
    "another number of elements": operation("flat", inputs=("t",)),
    "groups that do not divide channels": operation("groups", groups=2),
    "negative epsilon": operation("layer", epsilon=-1.0),
    "scale of other channels": operation("layer", scale="scale"),
    "maximum that is no flag": operation("over", maximum=1),
    "reduced to another size": operation("over", inputs=("t",)),
    "too few slopes": operation("p", weight="w.y"),
    "interpolation of an unknown mode": operation("q", mode="bicubic"),
    "interpolation to another size": operation("q", size=(5, 5)),
    "interpolation by a negative scale": operation("q", scales=(1.5, -2.0)),
    "interpolation by another value's size": operation("q", inputs=("p", "x")),
    "constant with inputs": operation("rows", inputs=("x",)),
    "constant of another shape": operation("rows", weight="scale"),
    "unknown arithmetic": operation("r", arithmetic="modulo"),
    "inputs without reason": operation("p", inputs=()),
    "sum of different channels": operation("f", inputs=("e", "units")),
    "sum of different sizes": operation("f", inputs=("grid", "e")),
    "product of different sizes": operation("g", inputs=("f", "grid")),
    "parts of different sizes": operation("h", inputs=("g", "grid")),
    "parts of too few channels": operation("h", inputs=("g",)),
    "slice that changes the size": operation("i", inputs=("mean",)),
    "slice far away": operation("i", begin=1 << 40),
    "mask that changes shape": operation("d", inputs=("x",)),
}


def test_the_program_itself_is_fine_and_runs():
    whole = one_of_each()
    check(whole)
    y, k, w, r = Engine(whole, threads=1)(np.ones((2, 4, 9, 9), np.float32))
    assert (y.shape, k.shape, w.shape, r.shape) == ((2, 7), (2, 5, 3, 3), (2, 6, 5, 5), (2, 6, 7, 12))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_programs_are_refused(name):
    with pytest.raises(ProgramError) as error:
        check(BROKEN[name](one_of_each()))
    assert ":" in str(error.value), "says where"


@pytest.mark.parametrize("kind", [Activate, Affine, Conv, Mask, Pick, Pool, PoolToGrid, Slice, Decide])
def test_kinds_of_one_input_take_one(kind):
    changed = one_of_each()
    places = [i for i, op in enumerate(changed.operations) if type(op) is kind]
    for place in places:
        operation = changed.operations[place]
        if len(operation.inputs) == 1:
            operations = list(changed.operations)
            operations[place] = replace(operation, inputs=("x", *operation.inputs, "x"))
            with pytest.raises(ProgramError):
                check(replace(changed, operations=tuple(operations)))
