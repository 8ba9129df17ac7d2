"""Run a small program on every instruction set that this machine has, in an environment that holds the bare wheel."""

import numpy as np

from convgate.engine import Engine, instruction_sets
from convgate.engine.program import Conv, Program, Value


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


def main() -> None:
    images = np.random.default_rng(1).standard_normal((2, 3, 12, 12)).astype(np.float32)
    wanted = Engine(program(), threads=1, isa="scalar")(images)
    for precision, error in (("float32", 1e-5), ("bf16", 3e-2)):
        for isa in instruction_sets(precision):
            found = Engine(program(), threads=1, isa=isa, precision=precision if precision == "bf16" else None)(images)
            np.testing.assert_allclose(found, wanted, rtol=error, atol=error, err_msg=f"{precision}, {isa}")
            print(precision, isa)


if __name__ == "__main__":
    main()
