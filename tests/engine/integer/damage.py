"""What every file of integers is tried with."""

import contextlib

import numpy as np
from hypothesis import strategies as st
from tests.engine.damage import JUNK, put_anywhere, rewrite

from convgate.engine.file import load_program
from convgate.engine.integer import IntegerNetwork
from convgate.errors import CheckpointError


def refused_or_run(saved, data, elements):
    """Anything in the place of anything in a file's values or operations; what is accepted runs."""

    def change(program, arrays):
        part = program[data.draw(st.sampled_from(["values", "operations"]))]
        put_anywhere(data, part, [*JUNK, 0, 3, 1.5, *elements])

    with contextlib.suppress(CheckpointError):
        program = load_program(rewrite(saved, change))
        images = program.value(program.inputs[0])
        IntegerNetwork(program, 1, "scalar").run([np.ones((1, *images.shape), np.float32)], {})
