"""Averages that are taken from others, and what they are."""

from dataclasses import replace

import numpy as np
import pytest

from convgate.engine.engine import Engine
from convgate.engine.integer import IntegerNetwork
from convgate.engine.pools import share_pools
from convgate.engine.program import Conv, Decide, Element, Gate, IntegerMean, PoolToGrid, Program, Quantize, Value
from convgate.engine.runtime import instruction_sets

CELLS = {Element.FLOAT32: 1, Element.BFLOAT16: 2, Element.INT8: 4, Element.UINT8: 4}
"""Positions of a cell at which its mean in float32 takes as much as the cell."""


def means(element, size, *grids, channels=40):
    """A map of those elements and its averages over grids."""
    values = [Value("images", channels, *size)]
    if element is Element.FLOAT32:
        read, before, kind = "images", (), PoolToGrid
    elif element is Element.BFLOAT16:
        # A layer is needed that writes it.
        values.append(Value("map", channels, *size, element))
        read, before, kind = "map", (Conv(("images",), "map", "weight", "", "layer"),), PoolToGrid
    else:
        values.append(Value("map", channels, *size, element, 0.02))
        read, before, kind = "map", (Quantize(("images",), "map"),), IntegerMean
    values += [Value(f"mean{i}", channels, *grid) for i, grid in enumerate(grids)]
    operations = (*before, *(kind((read,), f"mean{i}", grid=grid) for i, grid in enumerate(grids)))
    arrays = {"weight": np.eye(channels, dtype=np.float32)[:, :, None, None]} if element is Element.BFLOAT16 else {}
    outputs = tuple(f"mean{i}" for i in range(len(grids)))
    return Program(tuple(values), (), operations, ("images",), outputs, arrays, ("layer",) if arrays else ())


def deciding(program):
    """The same averages, of one channel, that nothing but decisions read."""
    gates = tuple(Gate(name, "spatial", program.value(name).shape) for name in program.outputs)
    decisions = tuple(Decide((name,), name, f"offset of {name}") for name in program.outputs)
    offsets = {f"offset of {gate.name}": np.zeros(gate.shape, np.float32) for gate in gates}
    return replace(
        program,
        gates=gates,
        operations=(*program.operations, *decisions),
        outputs=("images",),
        arrays={**program.arrays, **offsets},
    )


@pytest.mark.parametrize("element", CELLS)
def test_a_coarse_grid_reads_a_finer_one_if_that_takes_less(element):
    side = 4
    program = deciding(means(element, (4 * side, 4 * side), (4, 4), (2, 2), (1, 1), channels=1))
    first, *others = share_pools(program).operations[-6:-3]
    assert first == program.operations[-6]
    assert [op.inputs for op in others] == [("mean0",), ("mean1",)]
    assert all(isinstance(op, PoolToGrid) for op in others)
    if element is not Element.FLOAT32:  # a cell of one position is no average there
        small = deciding(means(element, (4, 4 * CELLS[element]), (4, 4), (1, 1), channels=1))
        assert share_pools(small).operations == small.operations


@pytest.mark.parametrize("element", [Element.INT8, Element.UINT8])
def test_means_of_integers_that_are_results_are_taken_from_them(element):
    program = means(element, (16, 16), (4, 4), (2, 2), (1, 1))
    assert share_pools(program).operations == program.operations


def test_uneven_grids_are_averaged_from_the_map():
    program = means(Element.UINT8, (30, 30), (4, 4), (2, 2))
    assert share_pools(program).operations == program.operations


@pytest.mark.parametrize("isa", instruction_sets("int8"))
@pytest.mark.parametrize("element", [Element.INT8, Element.UINT8])
@pytest.mark.parametrize("channels", [1, 7, 16, 33, 64, 130, 300])
def test_means_of_integers(isa, element, channels):
    """Those of a whole map are summed in parts, and exact all the same."""
    rng = np.random.default_rng(channels)
    images = rng.uniform(-2.6 if element is Element.INT8 else 0, 5.2, (2, channels, 40, 24)).astype(np.float32)
    for grids in [((1, 1),), ((5, 3),), ((7, 5),), ((4, 4), (2, 2), (1, 1))]:
        program = means(element, (40, 24), *grids, channels=channels)
        reference = Engine(program, threads=1, isa=isa, executor=IntegerNetwork)(images)
        one, two = (Engine(program, threads=threads, isa=isa)(images) for threads in (1, 2))
        one, two, reference = (x if isinstance(x, tuple) else (x,) for x in (one, two, reference))
        for mine, again, wanted in zip(one, two, reference, strict=True):
            np.testing.assert_array_equal(mine, again)
            np.testing.assert_array_equal(mine, wanted)


@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize(("channels", "size"), [(3, (200, 200)), (64, (56, 56)), (513, (7, 7)), (40, (2, 900))])
def test_the_mean_of_a_map_does_not_depend_on_threads(isa, channels, size):
    program = means(Element.FLOAT32, size, (1, 1), channels=channels)
    images = np.random.default_rng(0).standard_normal((1, channels, *size), np.float32)
    one, three = (Engine(program, threads=threads, isa=isa)(images) for threads in (1, 3))
    np.testing.assert_array_equal(one, three)
    np.testing.assert_allclose(one[:, :, 0, 0], images.astype(np.float64).mean((2, 3)), atol=3e-6)


def test_elements_outside_float32_are_exact_up_to_their_sum():
    """Sums of more than 2^24 are not formed in parts."""
    side = 300
    program = means(Element.UINT8, (side, side), (1, 1), channels=2)
    images = np.full((1, 2, side, side), 255 * 0.02, np.float32)
    images[0, 1, :3, 0] = 0.02
    reference = Engine(program, threads=1, executor=IntegerNetwork)(images)
    np.testing.assert_array_equal(Engine(program, threads=2)(images), reference)
