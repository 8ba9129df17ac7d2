"""Random programs for the engine's tests, with images and masks for them."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from tests.engine.definitions import EXAMPLES

from convgate.engine.program import (
    Activate,
    Add,
    Affine,
    Arithmetic,
    Complete,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Decide,
    FillClosed,
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

__all__ = ["images", "masks", "programs"]

# No vector width divides most of these.
_CHANNELS = (1, 2, 3, 5, 8, 13, 16, 17, 24, 31, 32, 33, 48, 66)
_KEEP_ZERO = tuple(activation for activation in EXAMPLES if activation.keeps_zero)


def images(program, batch, seed=0):
    """Random inputs float32 [N, C, H, W]."""
    rng = np.random.default_rng(seed)
    shapes = [(batch, v.channels, v.height, v.width) for v in map(program.value, program.inputs)]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def masks(program, batch, share, seed=0):
    """Random masks for all gates, of which `share` is open."""
    rng = np.random.default_rng(seed)
    return {g.name: (rng.random((batch, *g.shape)) < share).astype(np.uint8) for g in program.gates}


@st.composite
def programs(draw, most_steps=6):
    """A valid program: a chain of operations with shortcuts, and gates wherever they may be."""
    return _Builder(draw).build(most_steps)


class _Builder:
    def __init__(self, draw):
        self._draw = draw
        self._rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.values, self.gates, self.operations, self.arrays, self.layers = [], [], [], {}, []
        self.usable = []
        self.closed_by = {}  # per value: the channel gates whose closed channels hold zeros in it

    def build(self, most_steps):
        inputs = [
            self._value("x", self._pick(_CHANNELS), self._int(1, 13), self._int(1, 13))
            for _ in range(self._pick((1, 1, 1, 2)))
        ]
        self.usable += inputs
        steps = (
            *3 * (self._conv,),
            *2 * (self._two_convs,),
            *2 * (self._convolution_in_part,),
            self._pool,
            self._pool_to_grid,
            self._activate,
            self._affine,
            self._binary,
            self._arithmetic,
            self._prelu,
            self._interpolate,
            *2 * (self._transposed,),
            self._padded,
            self._rearranged,
            self._normed,
            self._over_channels,
            self._concat,
            self._slice,
            self._pick_channels,
            self._mask,
            self._fill,
        )
        for _ in range(self._int(1, most_steps)):
            self._pick(steps)(self._source())
        outputs = {self.usable[-1], self._pick(self.usable)}
        names = [v.name for v in self.usable if v in outputs]
        return Program(
            tuple(self.values),
            tuple(self.gates),
            tuple(self.operations),
            tuple(v.name for v in inputs),
            tuple(names),
            self.arrays,
            tuple(self.layers),
        )

    def _int(self, low, high):
        return self._draw(st.integers(low, high))

    def _pick(self, choices):
        return choices[self._int(0, len(choices) - 1)]

    def _flag(self):
        return self._draw(st.booleans())

    def _value(self, prefix, channels, height, width, closed_by=()):
        value = Value(f"{prefix}{len(self.values)}", channels, height, width)
        self.values.append(value)
        self.closed_by[value.name] = tuple(closed_by)
        return value

    def _like(self, x, closed_by=()):
        return self._value("v", x.channels, x.height, x.width, closed_by)

    def _array(self, *shape, scale=1.0):
        name = f"a{len(self.arrays)}"
        self.arrays[name] = (scale * self._rng.standard_normal(shape)).astype(np.float32)
        return name

    def _source(self):
        return self.usable[-1 - self._int(0, min(len(self.usable) - 1, 2))]

    def _add(self, operation, output):
        self.operations.append(operation)
        self.usable.append(output)

    def _alike(self, x, vectors):
        return [
            v
            for v in self.usable
            if v.channels == x.channels
            and ((v.height, v.width) == (x.height, x.width) or (vectors and v.height * v.width == 1))
        ]

    def _spatial_gate(self, on):
        known = [g for g in self.gates if g.kind == "spatial"]
        if known and self._flag():
            return self._pick(known).name
        rows, columns = (self._int(1, min(size + 1, 6)) for size in (on.height, on.width))
        return self._gate("spatial", 1, (1, rows, columns))

    def _channel_gate(self, channels):
        known = [g for g in self.gates if g.kind == "channel" and g.shape[0] == -(-channels // g.group)]
        if known and self._flag():
            return self._pick(known).name
        group = self._pick((1, 1, 2, 3, 8))
        units = -(-channels // group)
        return self._gate("channel", group, (units, 1, 1))

    def _gate(self, kind, group, shape):
        """A gate decided by a pool and a convolution of a value, as real ones are."""
        gate = Gate(f"g{len(self.gates)}", kind, shape, group)
        x = self._source()
        pooled = self._value("p", x.channels, *shape[1:])
        logits = self._value("l", *shape)
        weight = self._array(shape[0], x.channels, 1, 1)
        self.layers.append(gate.name)
        self.operations += [
            PoolToGrid((x.name,), pooled.name),
            Conv((pooled.name,), logits.name, weight, "", gate.name),
            Decide((logits.name,), gate.name, self._array(*shape), strict=self._flag()),
        ]
        self.gates.append(gate)
        return gate.name

    def _reach(self):
        """By how much a mask of tiles is dilated: mostly by nothing."""
        return self._pick(((0, 0), (0, 0), (0, 0), (1, 1), (0, 2), (3, 1)))

    def _two_convs(self, x):
        self._conv(x)
        self._conv(self.usable[-1])  # which may skip the channels that the first left closed

    def _conv(self, x):
        kernel = self._pick(((1, 1), (1, 1), (3, 3), (3, 3), (5, 5), (2, 2), (1, 3), (7, 1)))
        stride = self._pick(((1, 1), (1, 1), (2, 2), (1, 3)))
        dilation = self._pick(((1, 1), (1, 1), (2, 2), (2, 1)))
        out, groups = self._pick((*_CHANNELS, x.channels)), 1
        form = self._pick(("dense", "dense", "dense", "depthwise", "grouped"))
        if form == "depthwise":
            out = groups = x.channels
        elif form == "grouped":
            groups = self._pick([g for g in range(1, x.channels + 1) if x.channels % g == 0])
            out = groups * self._pick((1, 2, 5))
        residual = self._flag()
        if residual:
            stride, out = (1, 1), x.channels if form != "grouped" else out
        reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        padding = (reach[0] // 2, reach[1] // 2, reach[0] - reach[0] // 2, reach[1] - reach[1] // 2)
        if not residual and self._int(0, 3) == 0:
            padding = tuple(self._int(0, 3) for _ in range(4))
        room = (x.height + padding[0] + padding[2] - reach[0] - 1, x.width + padding[1] + padding[3] - reach[1] - 1)
        if min(room) < 0:
            return
        shape = Value("", out, room[0] // stride[0] + 1, room[1] // stride[1] + 1)
        positions = self._spatial_gate(shape) if self._flag() else ""
        outs = self._channel_gate(out) if self._flag() else ""
        ins = self._pick(("", *2 * self.closed_by[x.name]))
        if ins and 1 < groups == x.channels == out:
            outs = ins  # a channel's one input is closed where it is
        added = self._alike(shape, vectors=False)
        shortcut = (self._pick(added).name,) if added and self._flag() else ()
        keep_zero = positions or outs
        output = self._value("v", out, shape.height, shape.width, (outs,) if outs and not shortcut else ())
        ins_per_group = x.channels // groups
        weight = self._array(out, ins_per_group, *kernel, scale=(ins_per_group * kernel[0] * kernel[1]) ** -0.5)
        self.layers.append(output.name)
        self._add(
            Conv(
                (x.name, *shortcut),
                output.name,
                weight,
                self._array(out) if self._flag() else "",
                output.name,
                stride,
                padding,
                dilation,
                groups,
                self._pick(_KEEP_ZERO if keep_zero else EXAMPLES),
                positions,
                ins,
                outs,
                self._reach() if positions else (0, 0),
            ),
            output,
        )

    def _convolution_in_part(self, x):
        """Sums by a convolution of a part of the channels, a gate decided by them, and their completion."""
        parts = self._pick([n for n in range(1, min(x.channels, 8) + 1) if x.channels % n == 0])
        out = parts * self._pick((1, 3, 8, 16, 17))
        kernel, stride = self._pick(((1, 1), (3, 3), (3, 3), (2, 3))), self._pick(((1, 1), (1, 1), (2, 2)))
        dilation = self._pick(((1, 1), (1, 1), (1, 2)))
        reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        padding = (reach[0] // 2, reach[1] // 2, reach[0] - reach[0] // 2, reach[1] - reach[1] // 2)
        geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        height, width = ((n - 1) // s + 1 for n, s in zip((x.height, x.width), stride, strict=True))
        own = x.channels // parts
        reads = x.channels - own if parts > 1 else own
        sums = self._value("v", out, height, width)
        scale = (x.channels * kernel[0] * kernel[1]) ** -0.5
        base, rest = (self._array(out, n, *kernel, scale=scale) for n in (own, reads))
        self.layers.append(sums.name)
        self._add(Conv((x.name,), sums.name, base, "", sums.name, **geometry, groups=parts), sums)
        group = self._pick((1, 1, 2, 3, 16, 64))
        gate = Gate(f"g{len(self.gates)}", "activation", (-(-out // group), height, width), group)
        self.gates.append(gate)
        norm = [self._array(out) if self._flag() else "" for _ in range(2)]
        self.operations.append(Decide((sums.name,), gate.name, self._array(gate.shape[0], 1, 1), *norm, self._flag()))
        added = (self._pick(self._alike(sums, vectors=False)).name,) if self._flag() else ()
        norms = [self._array(out) if self._flag() else "" for _ in range(4)]
        output = self._like(sums)
        activation = self._pick(EXAMPLES)
        inputs = (x.name, sums.name, *added)
        how = tuple(geometry.values())
        self._add(Complete(inputs, output.name, rest, sums.name, gate.name, *how, parts, activation, *norms), output)

    def _pick_channels(self, x):
        output = self._like(replace(x, channels=self._pick(_CHANNELS)))
        channels = tuple(self._rng.integers(0, x.channels, output.channels).tolist())
        self._add(Pick((x.name,), output.name, channels), output)

    def _pool(self, x):
        kind, kernel = self._pick(("max", "average")), (self._int(1, 4), self._int(1, 4))
        padding = tuple(self._int(0, k // 2) for k in kernel)
        # PyTorch's averages have no dilation; a dilated window in a border may hold nothing.
        dilation = self._pick(((1, 1), (2, 1))) if kind == "max" and padding == (0, 0) else (1, 1)
        stride, ceil = (self._int(1, 3), self._int(1, 3)), self._flag()
        size = []
        for axis, n in enumerate((x.height, x.width)):
            room = n + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1
            if room < 0:
                return
            cells = (room + (stride[axis] - 1 if ceil else 0)) // stride[axis] + 1
            size.append(cells - ((cells - 1) * stride[axis] >= n + padding[axis]))
        output = self._value("v", x.channels, *size, self.closed_by[x.name])
        self._add(Pool((x.name,), output.name, kind, kernel, stride, padding, dilation, self._flag()), output)

    def _pool_to_grid(self, x):
        output = self._value("v", x.channels, self._int(1, 5), self._int(1, 5), self.closed_by[x.name])
        self._add(PoolToGrid((x.name,), output.name, self._flag()), output)

    def _activate(self, x):
        activation = self._pick(EXAMPLES)
        output = self._like(x, self.closed_by[x.name] if activation in _KEEP_ZERO else ())
        self._add(Activate((x.name,), output.name, activation), output)

    def _affine(self, x):
        output = self._like(x)
        arrays = self._array(x.channels), self._array(x.channels)
        self._add(Affine((x.name,), output.name, *arrays, self._pick(EXAMPLES)), output)

    def _binary(self, x):
        names = (x.name, self._spread(x))
        if self._flag():
            output = self._like(x)
            self._add(Add(names, output.name, self._pick(EXAMPLES)), output)
        else:
            output = self._like(x, self.closed_by[x.name])
            self._add(Multiply(names, output.name), output)

    def _spread(self, x):
        """A value that is as large as `x`, or spread over it."""
        if self._int(0, 2):
            return self._pick(self._alike(x, vectors=True)).name
        shape = [self._pick((1, size)) for size in x.shape]
        value = self._value("c", *shape)
        self.operations.append(Constant((), value.name, self._array(*shape)))
        return value.name

    def _arithmetic(self, x):
        output = self._like(x)
        self._add(Arithmetic((x.name, self._spread(x)), output.name, self._pick(("maximum", "minimum"))), output)

    def _prelu(self, x):
        output = self._like(x, self.closed_by[x.name])
        self._add(PRelu((x.name,), output.name, self._array(x.channels)), output)

    def _interpolate(self, x):
        mode, like = self._pick(("nearest", "nearest-exact", "bilinear")), self._pick(self.usable)
        scales, size, inputs = (0.0, 0.0), (0, 0), (x.name,)
        if self._flag():
            inputs, shape = (x.name, like.name), (like.height, like.width)
        elif self._flag():
            size = shape = (self._int(1, 13), self._int(1, 13))
        else:
            scales = (self._pick((1.0, 1.5, 2.0)), self._pick((1.0, 0.7, 2.0)))
            shape = tuple(int(n * s) for n, s in zip((x.height, x.width), scales, strict=True))
        if min(shape) < 1 or max(shape) > 16:
            return
        output = self._value("v", x.channels, *shape)
        corners = mode == "bilinear" and self._flag()
        self._add(Interpolate(inputs, output.name, mode, corners, scales, size), output)

    def _transposed(self, x):
        groups = self._pick([g for g in range(1, x.channels + 1) if x.channels % g == 0])
        out = groups * self._pick((1, 1, 2, 5, 17))
        kernel, stride = self._pick(((1, 1), (2, 2), (3, 3), (4, 4), (3, 5))), self._pick(((1, 1), (2, 2), (3, 1)))
        dilation = self._pick(((1, 1), (1, 1), (2, 1)))
        padding = self._pick(((0, 0), (1, 1), (0, 2)))
        more = tuple(self._int(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
        size = [
            (n - 1) * stride[a] - 2 * padding[a] + dilation[a] * (kernel[a] - 1) + 1 + more[a]
            for a, n in enumerate((x.height, x.width))
        ]
        if min(size) < 1 or max(size) > 30 or out > 150:
            return
        output = self._value("v", out, *size)
        weight = self._array(x.channels, out // groups, *kernel, scale=(x.channels // groups) ** -0.5)
        bias = self._array(out) if self._flag() else ""
        self.layers.append(output.name)
        how = stride, padding, more, dilation, groups, self._pick(EXAMPLES)
        self._add(ConvTranspose((x.name,), output.name, weight, bias, output.name, *how), output)

    def _padded(self, x):
        mode = self._pick(("constant", "reflect", "replicate", "circular"))
        low, high = (-1, 3) if mode == "constant" else (0, min(3, x.height - 1, x.width - 1))
        top, left, bottom, right = (self._int(low, high) for _ in range(4))
        size = x.height + top + bottom, x.width + left + right
        if min(size) < 1 or max(size) > 20:
            return
        output = self._value("v", x.channels, *size)
        value = self._pick((0.0, 0.0, 0.5, -2.0)) if mode == "constant" else 0.0
        self._add(Pad((x.name,), output.name, (top, left, bottom, right), mode, value), output)

    def _rearranged(self, x):
        f = self._pick((2, 2, 3))
        if self._flag():
            output = self._value("v", x.width, x.channels, x.height)
            self._add(Reshape((x.name,), output.name), output)
        elif x.channels % f**2 == 0 and max(x.height, x.width) < 8:
            output = self._value("v", x.channels // f**2, x.height * f, x.width * f)
            self._add(PixelShuffle((x.name,), output.name, f), output)
        elif x.height % f == x.width % f == 0 and x.channels < 20:
            output = self._value("v", x.channels * f**2, x.height // f, x.width // f)
            self._add(PixelUnshuffle((x.name,), output.name, f), output)

    def _normed(self, x):
        output = self._like(x)
        arrays = [self._array(x.channels) if self._flag() else "" for _ in range(2)]
        if self._flag():
            self._add(LayerNorm((x.name,), output.name, *arrays, 0.1), output)
        else:
            groups = self._pick([g for g in range(1, x.channels + 1) if x.channels % g == 0])
            self._add(GroupNorm((x.name,), output.name, *arrays, 0.1, groups), output)

    def _over_channels(self, x):
        if self._flag():
            output = self._like(x)
            self._add(Softmax((x.name,), output.name), output)
        else:
            output = self._value("v", 1, x.height, x.width)
            self._add(OverChannels((x.name,), output.name, self._flag()), output)

    def _concat(self, x):
        fits = [v for v in self.usable if (v.height, v.width) == (x.height, x.width) and v.channels + x.channels < 150]
        others = [self._pick(fits)] if fits else []
        output = self._like(replace(x, channels=x.channels + sum(v.channels for v in others)))
        self._add(Concat((x.name, *(v.name for v in others)), output.name), output)

    def _slice(self, x):
        output = self._like(replace(x, channels=self._pick(_CHANNELS)))
        self._add(Slice((x.name,), output.name, self._int(-x.channels - 2, x.channels + 2)), output)

    def _fill(self, x):
        """From what a pool to the gate's tiles and a convolution say, as real ones are."""
        name = self._spatial_gate(x)
        gate = next(g for g in self.gates if g.name == name)
        source = self._source()
        pooled = self._value("p", source.channels, *gate.shape[1:])
        cells = self._value("f", x.channels, *gate.shape[1:])
        weight = self._array(x.channels, source.channels, 1, 1)
        output = self._like(x)
        self.layers.append(f"fill {output.name}")
        self.operations += [
            PoolToGrid((source.name,), pooled.name),
            Conv((pooled.name,), cells.name, weight, "", self.layers[-1]),
        ]
        self._add(FillClosed((x.name, cells.name), output.name, gate.name), output)

    def _mask(self, x):
        gate = self._spatial_gate(x) if self._flag() else self._channel_gate(x.channels)
        channel = next(g for g in self.gates if g.name == gate).kind == "channel"
        output = self._like(x, (*self.closed_by[x.name], gate) if channel else self.closed_by[x.name])
        self._add(Mask((x.name,), output.name, gate, (0, 0) if channel else self._reach()), output)
