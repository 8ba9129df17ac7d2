"""A workload: what an accelerator has to do for a program, step by step, before anything is decided.

A convolution is a step on the array, and so is a base path with its completion; everything else that takes time is a
step of the vector unit.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from convgate.engine.integer import brought, dilated
from convgate.engine.program import (
    Activate,
    Completing,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Decide,
    FillClosed,
    Gate,
    GateKind,
    GroupNorm,
    IntegerAdd,
    IntegerComplete,
    IntegerConv,
    Interpolate,
    LayerNorm,
    Mask,
    Operation,
    Pick,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    PoolToGrid,
    PRelu,
    Program,
    Reshape,
    Slice,
    Value,
    label,
    reads,
    serving_decisions,
)
from convgate.errors import InputError
from convgate.hardware.counts import Masks
from convgate.hardware.positions import expanded
from convgate.hardware.steps import ArrayStep, Completion, Step, VectorStep

__all__ = ["Workload"]

_VIEWS = (Concat, Constant, Pick, PixelShuffle, PixelUnshuffle, Reshape, Slice)
"""Operations that are another way of addressing what is stored already."""


@dataclass(frozen=True)
class Dilation:
    """The mask of `gate` on a map of `size`, dilated by `reach` rows and columns."""

    gate: str
    reach: tuple[int, int]
    size: tuple[int, int]

    def of(self, mask: np.ndarray) -> np.ndarray:
        """That of a mask of tiles [N, 1, rows, columns]: uint8 [N, 1, height, width]."""
        return dilated(expanded(mask, self.size).astype(np.uint8), self.reach)[:, None]


@dataclass(frozen=True, eq=False)
class Workload:
    """The steps of a program, in order.

    `maps` are the stored maps, `images` and `results` those of them that come from and go to memory in any case;
    `logits` names, by gate, the map that it is decided on. `gates` are the program's, and for each map on which a mask
    of tiles is dilated one of single positions, which `dilations` says how to find. `filled` maps a map whose closed
    tiles are filled to the map that it is without that.
    """

    steps: tuple[Step, ...]
    gates: Mapping[str, Gate]
    maps: Mapping[str, Value]
    images: tuple[str, ...]
    results: tuple[str, ...]
    logits: Mapping[str, str]
    dilations: Mapping[str, Dilation] = field(default_factory=dict)
    filled: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, program: Program) -> "Workload":
        """The workload of a program at its size.

        Raises `InputError` for a program of which PyTorch computes a part, and for one that computes nothing.
        """
        if any(program.externals()):
            raise InputError(
                "PyTorch computes a part of this network; an accelerator can be simulated for .cgm programs"
            )
        workload = _Reading(program).workload()
        if all(step.head for step in workload.steps):
            raise InputError("the program computes nothing: there is nothing for an accelerator to do")
        return workload

    def dense(self) -> "Workload":
        """The same network without gates: no heads, nothing skipped, every sum formed at once."""
        steps = []
        for step in self.steps:
            if step.head:
                continue
            bare = replace(step, after=(), reads=tuple(map(self._unfilled, step.reads)))
            if isinstance(bare, ArrayStep):
                bare = replace(bare, added=self._unfilled(bare.added))
                bare = replace(bare, positions="", inputs="", outputs="", read_positions="", in_place=False)
                if (how := bare.completion) is not None:
                    # Where the base path is elsewhere, so is its share of the dense convolution.
                    bare = replace(bare, completion=None, groups=1, in_channels=how.base + how.rest)
            steps.append(bare)
        return replace(self, steps=tuple(steps), gates={}, logits={}, dilations={})

    def _unfilled(self, name: str) -> str:
        while name in self.filled:
            name = self.filled[name]
        return name

    def masks(self, decided: Masks) -> Masks:
        """The masks of all gates, dilated ones among them, given those that were decided."""
        found = {name: how.of(decided[how.gate]) for name, how in self.dilations.items()}
        return {**decided, **found}

    def decided(self, name: str) -> Gate:
        """The gate itself, or that whose mask is dilated: what an accelerator reads."""
        return self.gates[self.dilations[name].gate if name in self.dilations else name]

    def just_decided(self) -> list[frozenset[str]]:
        """By step, the gates that the array's step before it, or something after that, gave the logits of."""
        found, now = [], frozenset[str]()
        for step in self.steps:
            found.append(now)
            own = frozenset(gate for gate, logits in self.logits.items() if logits == step.writes)
            now = own if isinstance(step, ArrayStep) else now | own
        return found

    def array_steps(self) -> Iterator[ArrayStep]:
        """The steps on the array."""
        return (step for step in self.steps if isinstance(step, ArrayStep))


class _Reading:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.writers = {op.output: op for op in program.operations if not isinstance(op, Decide)}
        self.gates = {gate.name: gate for gate in program.gates}
        self.dilations: dict[str, Dilation] = {}
        self.filled = {op.output: op.inputs[0] for op in program.operations if isinstance(op, FillClosed)}
        self.heads = _added_by_gates(program)
        self.bases = {
            op.inputs[1]: op for op in program.operations if isinstance(op, Completing) and self._is_base(op.inputs[1])
        }

    def _is_base(self, name: str) -> bool:
        """Whether partial sums are a plain convolution's, read by nothing but their completion and decisions."""
        readers = [op for op in self.program.operations if name in op.inputs]
        base = self.writers.get(name)
        return (
            isinstance(base, Conv)
            and len(base.inputs) == 1
            and not base.activation
            and not (base.positions or base.in_channels or base.out_channels)
            and all(isinstance(op, Completing | Decide) for op in readers)
            and sum(isinstance(op, Completing) for op in readers) == 1
            and name not in self.program.outputs
        )

    def workload(self) -> Workload:
        steps = [step for op in self.program.operations for step in self._steps(op)]
        stored = {name for step in steps for name in (*step.reads, step.writes)}
        results = [root for name in self.program.outputs for root in self._roots(name)]
        return Workload(
            tuple(steps),
            self.gates,
            {name: self.program.value(name) for name in stored},
            tuple(name for name in self.program.inputs if name in stored),
            tuple(dict.fromkeys(name for name in results if name in stored)),
            {op.output: self._roots(op.inputs[0])[0] for op in self.program.operations if isinstance(op, Decide)},
            self.dilations,
            {output: root for output, name in self.filled.items() for root in self._roots(name)[:1]},
        )

    def _steps(self, op: Operation) -> list[Step]:
        if isinstance(op, (Decide, *_VIEWS)):
            return []
        if isinstance(op, Conv):
            return [] if op.output in self.bases else [self._conv(op)]
        if isinstance(op, Completing):
            return [self._complete(op)]
        if isinstance(op, ConvTranspose):
            return [self._transposed(op)]
        return [self._vector(op)]

    def _common(
        self, op: Operation, inputs: Iterable[str]
    ) -> tuple[str, str, bool, tuple[str, ...], str, tuple[str, ...]]:
        roots = dict.fromkeys(root for name in inputs for root in self._roots(name))
        layer = getattr(op, "layer", "")
        return label(op), layer, op.output in self.heads, tuple(roots), op.output, reads(op, "gate")

    def _roots(self, name: str) -> tuple[str, ...]:
        """The stored maps that a value is a view of: itself, if it is stored."""
        op = self.writers.get(name)
        if not isinstance(op, _VIEWS):
            return (name,)
        return tuple(root for inner in op.inputs for root in self._roots(inner))

    def _vector(self, op: Operation) -> VectorStep:
        out = math.prod(self.program.value(op.output).shape)
        ins = [math.prod(self.program.value(name).shape) for name in op.inputs]
        elements = max(out, *ins)
        if isinstance(op, Pool):
            elements = out * math.prod(op.kernel)
        if isinstance(op, GroupNorm | LayerNorm):
            elements *= 2  # statistics, then the norm
        inputs = op.inputs[:1] if isinstance(op, Interpolate) else op.inputs  # of a second one, only the size matters
        return VectorStep(*self._common(op, inputs), elements=elements, pooled=isinstance(op, PoolToGrid))

    def _conv(self, op: Conv) -> ArrayStep:
        x, out = self.program.value(op.inputs[0]), self.program.value(op.output)
        return ArrayStep(
            *self._common(op, op.inputs),
            out=(out.height, out.width),
            source=(x.height, x.width),
            kernel=self.program.arrays[op.weight].shape[2:],
            stride=op.stride,
            padding=op.padding,
            dilation=op.dilation,
            groups=op.groups,
            in_channels=x.channels,
            out_channels=out.channels,
            positions=self._positions(op.positions, op.reach, out),
            inputs=op.in_channels,
            outputs=op.out_channels,
            read_positions=self._closed_positions(op.inputs[0]),
            added=self._roots(op.inputs[1])[0] if len(op.inputs) == 2 else "",
            in_place=len(op.inputs) == 2 and self._in_place(op, op.inputs[1]),
            of_images=op.inputs[0] in self.program.inputs,
        )

    def _complete(self, op: Completing) -> ArrayStep:
        x, out = self.program.value(op.inputs[0]), self.program.value(op.output)
        kernel = self.program.arrays[op.weight].shape
        base = self.writers.get(op.inputs[1]) if op.inputs[1] in self.bases else None
        own = self.program.arrays[base.weight].shape[1] if isinstance(base, Conv) else 0
        sources = [op.inputs[0], *(base.inputs if base else op.inputs[1:2]), *op.inputs[2:]]
        name, layer, head, roots, writes, after = self._common(op, sources)
        return ArrayStep(
            name,
            layer,
            head,
            roots,
            writes,
            tuple(gate for gate in after if gate != op.gate),
            out=(out.height, out.width),
            source=(x.height, x.width),
            kernel=kernel[2:],
            stride=op.stride,
            padding=op.padding,
            dilation=op.dilation,
            groups=1,
            in_channels=own + kernel[1],
            out_channels=out.channels,
            read_positions=self._closed_positions(op.inputs[0]),
            completion=Completion(self.gates[op.gate], op.parts, own, kernel[1]),
            added=self._roots(op.inputs[2])[0] if len(op.inputs) == 3 else "",
            of_images=op.inputs[0] in self.program.inputs,
        )

    def _transposed(self, op: ConvTranspose) -> ArrayStep:
        x, out = self.program.value(op.inputs[0]), self.program.value(op.output)
        return ArrayStep(
            *self._common(op, op.inputs),
            out=(x.height, x.width),
            source=(x.height, x.width),
            kernel=self.program.arrays[op.weight].shape[2:],
            stride=(1, 1),
            padding=(0, 0, 0, 0),
            dilation=(1, 1),
            groups=op.groups,
            in_channels=x.channels,
            out_channels=out.channels,
            transposed=True,
            of_images=op.inputs[0] in self.program.inputs,
        )

    def _positions(self, gate: str, reach: tuple[int, int], on: Value) -> str:
        """The spatial gate of a map: the one that decides or, where its mask is dilated, one of single positions."""
        if not gate or reach == (0, 0):
            return gate
        size = on.height, on.width
        name = f"{gate} on {size[0]}x{size[1]}, dilated by {reach[0]}x{reach[1]}"
        self.dilations[name] = Dilation(gate, reach, size)
        self.gates[name] = Gate(name, GateKind.SPATIAL, (1, *size))
        return name

    def _closed_positions(self, name: str) -> str:
        """The spatial gate whose closed positions are zero in a value, "" if there is none."""
        op = self.writers.get(name)
        if isinstance(op, Conv) and len(op.inputs) == 1:
            return self._positions(op.positions, op.reach, self.program.value(name))
        if isinstance(op, Mask) and self.gates[op.gate].kind == GateKind.SPATIAL:
            return self._positions(op.gate, op.reach, self.program.value(name))
        if isinstance(op, PRelu) or (isinstance(op, Activate) and op.activation.keeps_zero):
            return self._closed_positions(op.inputs[0])
        return ""

    def _in_place(self, op: Conv, added: str) -> bool:
        """Whether what is added is read for the last time, and the activation would not change it by itself."""
        order = list(self.program.operations)
        later = order[order.index(op) + 1 :]
        last = not any(added in other.inputs for other in later) and added not in self.program.outputs
        writer = self.writers.get(added)
        if isinstance(op, IntegerConv):
            # Brought to its own scale an integer stays what it is, and the limits let all that was written pass.
            same = brought(np.arange(-128, 256), *op.addend).tolist() == list(range(-128, 256))
            low, high = (
                (writer.low, writer.high)
                if isinstance(writer, IntegerAdd | IntegerComplete | IntegerConv)
                else (-128, 255)
            )
            return last and same and op.low <= low and high <= op.high and (added,) == self._roots(added)
        done = getattr(writer, "activation", None)
        same = not op.activation or (op.activation.name == "relu" and done is not None and done == op.activation)
        return last and same and (added,) == self._roots(added)


def _added_by_gates(program: Program) -> frozenset[str]:
    """The values that serve nothing but decisions and the filling of closed tiles."""
    fills = tuple(op.output for op in program.operations if isinstance(op, FillClosed))
    read = tuple(replace(op, inputs=op.inputs[:1]) if isinstance(op, FillClosed) else op for op in program.operations)
    return serving_decisions(replace(program, operations=read)) | {*fills}
