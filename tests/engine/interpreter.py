"""Runs a program by its definition: one operation after the other, everything computed, masks multiplied in.

It knows nothing of layouts, fusing or skipping. Closed input channels of a convolution count as zeros whatever they
hold: what a convolution need not read must make no difference.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tests.engine.definitions import OPERATIONS, activated, dilated

from convgate.engine.program import dense_macs


@dataclass
class Run:
    """`outputs`, `values` and `masks` [N, ...]; `logits` of all gates; `macs` per layer, int64 [N]."""

    outputs: list
    values: dict
    masks: dict
    logits: dict
    macs: dict


def interpret(program, inputs, given=None, dtype=torch.float32):
    """Run `program` on arrays [N, C, H, W], computing in `dtype`.

    `given` maps gates to masks that take their decisions' place.
    """
    given = {name: torch.as_tensor(mask).to(dtype) for name, mask in (given or {}).items()}
    return _Interpreter(program, [torch.as_tensor(x).to(dtype) for x in inputs], given, dtype).run()


class _Interpreter:
    def __init__(self, program, inputs, given, dtype):
        self.program, self.given, self.dtype = program, given, dtype
        self.values = dict(zip(program.inputs, inputs, strict=True))
        self.gates = {gate.name: gate for gate in program.gates}
        self.masks, self.logits, self.batch = dict(given), {}, len(inputs[0])
        self.macs = {layer: torch.zeros(self.batch, dtype=torch.int64) for layer in program.layers}

    @torch.no_grad()
    def run(self):
        for operation in self.program.operations:
            inputs = [self.values[name] for name in operation.inputs]
            kind = type(operation).__name__
            if kind in OPERATIONS:
                value = self.program.value(operation.output)
                output = OPERATIONS[kind](operation, value, self.array, *inputs)
                if kind == "ConvTranspose":
                    self.macs[operation.layer] += dense_macs(self.program, operation)
            else:
                output = getattr(self, kind.lower())(operation, *inputs)
            if output is not None:
                value = self.program.value(operation.output)
                assert output.shape[1:] == (value.channels, value.height, value.width), operation
                self.values[operation.output] = output.expand(self.batch, -1, -1, -1)
        outputs = [self.values[name] for name in self.program.outputs]
        for i, name in enumerate(self.program.outputs):
            if name in self.program.vectors:
                assert outputs[i].shape[2:] == (1, 1), f"the vector {name} is a map"
                outputs[i] = outputs[i].flatten(1)
        return Run(outputs, self.values, self.masks, self.logits, self.macs)

    def array(self, name):
        return torch.from_numpy(self.program.arrays[name].copy()).to(self.dtype)

    def ones(self, *shape):
        return torch.ones(1, *shape, dtype=self.dtype)

    def position_mask(self, gate, size, reach):
        """[N, 1, *size], or ones."""
        return dilated(F.interpolate(self.masks[gate], size=size), reach) if gate else self.ones(1, *size)

    def channel_mask(self, gate, channels):
        """[N, channels, 1, 1], or ones."""
        if not gate:
            return self.ones(channels, 1, 1)
        unit = torch.arange(channels) // self.gates[gate].group
        return self.masks[gate][:, unit]

    def conv(self, op, x, addend=None):
        weight = self.array(op.weight)
        bias = self.array(op.bias) if op.bias else None
        read = self.channel_mask(op.in_channels, x.shape[1])
        top, left, bottom, right = op.padding
        padded = F.pad(x * read, (left, right, top, bottom))
        y = F.conv2d(padded, weight, bias, op.stride, 0, op.dilation, op.groups)
        positions = self.position_mask(op.positions, y.shape[2:], op.reach)
        written = self.channel_mask(op.out_channels, y.shape[1])
        n = self.batch
        by_group = (m.expand(n, -1, 1, 1).reshape(n, op.groups, -1).sum(2).long() for m in (read, written))
        pairs = torch.prod(torch.stack(list(by_group)), 0).sum(1)
        self.macs[op.layer] += weight[0, 0].numel() * positions.flatten(1).sum(1).long() * pairs
        y = y * positions * written
        return activated(y if addend is None else y + addend, op.activation)

    def complete(self, op, x, base, addend=0.0):
        parts = op.parts
        weight = self.array(op.weight)
        read = weight.shape[1]
        # The whole convolution's weights, with zeros for what the partial sums know already.
        whole = weight.new_zeros(weight.shape[0], x.shape[1], *weight.shape[2:])
        for i in range(parts):
            outs = slice(i * weight.shape[0] // parts, (i + 1) * weight.shape[0] // parts)
            size = x.shape[1] // parts
            kept = [c for c in range(x.shape[1]) if parts == 1 or c // size != i]
            assert len(kept) == read
            whole[outs, kept] = weight[outs]
        top, left, bottom, right = op.padding
        y = F.conv2d(F.pad(x, (left, right, top, bottom)), whole, None, op.stride, 0, op.dilation)
        channels, gate = base.shape[1], self.gates[op.gate]
        open_ = self.masks[op.gate].repeat_interleave(gate.group, 1)[:, :channels]
        self.macs[op.layer] += weight[0].numel() * open_.flatten(1).sum(1).long()

        def norm(value, scale, shift):
            value = value * self.array(scale)[:, None, None] if scale else value
            return value + self.array(shift)[:, None, None] if shift else value

        done = norm(base + y, op.open_scale, op.open_shift)
        y = torch.where(open_.bool(), done, norm(base, op.scale, op.shift))
        return activated(y + addend, op.activation)

    def pool(self, op, x):
        size = self.program.value(op.output)
        window = {"kernel_size": op.kernel, "stride": op.stride}
        # Whether a last, incomplete window counts is read off the output's size.
        if op.kernel == (1, 1):
            padded = F.pad(x, (op.padding[1], op.padding[1], op.padding[0], op.padding[0]))
            return padded[:, :, :: op.stride[0], :: op.stride[1]]
        for ceil_mode in (False, True):
            if op.kind == "max":
                y = F.max_pool2d(x, **window, padding=op.padding, dilation=op.dilation, ceil_mode=ceil_mode)
            else:
                assert op.dilation == (1, 1)
                y = F.avg_pool2d(
                    x, **window, padding=op.padding, ceil_mode=ceil_mode, count_include_pad=op.count_padding
                )
            if y.shape[2:] == (size.height, size.width):
                return y
        raise AssertionError(f"{op} does not lead to {size}")

    def pooltogrid(self, op, x):
        size = self.program.value(op.output)
        pool = F.adaptive_max_pool2d if op.maximum else F.adaptive_avg_pool2d
        return pool(x, (size.height, size.width))

    def activate(self, op, x):
        return activated(x, op.activation)

    def affine(self, op, x):
        scale, shift = (self.array(name)[:, None, None] for name in (op.scale, op.shift))
        return activated(x * scale + shift, op.activation)

    def add(self, op, x, y):
        return activated(x + y, op.activation)

    def multiply(self, op, x, y):
        return x * y

    def concat(self, op, *inputs):
        return torch.cat(inputs, 1)

    def slice(self, op, x):
        channels = self.program.value(op.output).channels
        y = x.new_zeros(len(x), channels, *x.shape[2:])
        for c in range(channels):
            if 0 <= op.begin + c < x.shape[1]:
                y[:, c] = x[:, op.begin + c]
        return y

    def pick(self, op, x):
        return x[:, list(op.channels)]

    def decide(self, op, x):
        gate = self.gates[op.output]
        if op.scale:
            x = x * self.array(op.scale)[:, None, None]
        if op.shift:
            x = x + self.array(op.shift)[:, None, None]
        if gate.kind == "activation":
            x = torch.stack([part.mean(1) for part in x.split(gate.group, 1)], 1)
        logits = x + self.array(op.offset)
        self.logits[op.output] = logits
        self.masks[op.output] = self.given.get(op.output, (logits > 0 if op.strict else logits >= 0).to(self.dtype))
        assert self.masks[op.output].shape[1:] == gate.shape

    def mask(self, op, x):
        if self.gates[op.gate].kind == "spatial":
            return x * self.position_mask(op.gate, x.shape[2:], op.reach)
        return x * self.channel_mask(op.gate, x.shape[1])

    def fillclosed(self, op, x, tiles):
        return x + F.interpolate(tiles, size=x.shape[2:]) * (1 - self.position_mask(op.gate, x.shape[2:], (0, 0)))
