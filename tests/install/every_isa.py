"""Run a small program on every instruction set that this machine has, in an environment that holds the bare wheel."""

import numpy as np

from convgate.engine import Engine, instruction_sets
from convgate.engine.integer import IntegerNetwork
from convgate.engine.program import Conv, Dequantize, Element, IntegerConv, Program, Quantize, Value


def program() -> Program:
    """Two convolutions, the second depthwise, with random weights."""
    random = np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32) / 8

    return Program(
        inputs=("x",),
        outputs=("z",),
        values=(Value("x", 3, 12, 12), Value("y", 24, 12, 12), Value("z", 24, 12, 12)),
        gates=(),
        operations=(
            Conv(("x",), "y", weight="w", bias="b", layer="first", padding=(1, 1, 1, 1)),
            Conv(("y",), "z", weight="v", bias="b", layer="second", padding=(1, 1, 1, 1), groups=24),
        ),
        layers=("first", "second"),
        arrays={"w": numbers(24, 3, 3, 3), "v": numbers(24, 1, 3, 3), "b": numbers(24)},
    )


def integers() -> Program:
    """The same of 8-bit integers; what the first writes has no sign."""
    random = np.random.default_rng(0)

    def conv(inputs: str, output: str, low: int, high: int, **options: int) -> IntegerConv:
        names = {"weight": f"{output}.w", "bias": "b", "multiplier": "m", "shift": f"{output}.s", "layer": output}
        return IntegerConv((inputs,), output, **names, padding=(1, 1, 1, 1), low=low, high=high, **options)

    return Program(
        inputs=("images",),
        outputs=("floats",),
        values=(
            Value("images", 3, 12, 12),
            Value("x", 3, 12, 12, Element.INT8, 0.02),
            Value("y", 24, 12, 12, Element.UINT8, 0.03),
            Value("z", 24, 12, 12, Element.INT8, 0.05),
            Value("floats", 24, 12, 12),
        ),
        gates=(),
        operations=(
            Quantize(("images",), "x"),
            conv("x", "y", 0, 255),
            conv("y", "z", -127, 127, groups=24),
            Dequantize(("z",), "floats"),
        ),
        layers=("y", "z"),
        arrays={
            "y.w": random.integers(-127, 128, (24, 3, 3, 3)).astype(np.int8),
            "z.w": random.integers(-127, 128, (24, 1, 3, 3)).astype(np.int8),
            "b": random.integers(-999, 999, 24).astype(np.int32),
            "m": random.integers(1 << 14, 1 << 15, 24).astype(np.int32),
            "y.s": np.full(24, 22, np.int32),
            "z.s": np.full(24, 24, np.int32),
        },
    )


def main() -> None:
    images = np.random.default_rng(1).standard_normal((2, 3, 12, 12)).astype(np.float32)
    wanted = Engine(program(), threads=1, isa="scalar")(images)
    for precision, error in (("float32", 1e-5), ("bf16", 3e-2)):
        for isa in instruction_sets(precision):
            found = Engine(program(), threads=1, isa=isa, precision=precision if precision == "bf16" else None)(images)
            np.testing.assert_allclose(found, wanted, rtol=error, atol=error, err_msg=f"{precision}, {isa}")
            print(precision, isa)
    exact = Engine(integers(), threads=1, executor=IntegerNetwork)(images)
    assert len(np.unique(exact)) > 100
    for isa in instruction_sets("int8"):
        np.testing.assert_array_equal(Engine(integers(), threads=1, isa=isa)(images), exact, err_msg=f"int8, {isa}")
        print("int8", isa)


if __name__ == "__main__":
    main()
