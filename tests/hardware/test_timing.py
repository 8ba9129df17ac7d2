import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hardware.stepped_array import controller, stepped

from convgate.hardware.folds import Block
from convgate.hardware.timing import double_buffered, overlapped, serial, serial_accesses

_CAUSES = ("compute", "weights", "first_weights", "decisions", "fill_drain")


def product(positions, depth, width):
    return tuple(np.array([[n]]) for n in (positions, depth, width))


# Source: the rows of the demand matrices that scalesim 3.0.0's own classes make. (T, K, M, rows, columns): ws, os, is.
SMALL = {
    (20, 13, 10, 4, 4): (360, 285, 400),
    (7, 5, 9, 4, 3): (96, 60, 108),
    (1, 40, 16, 8, 4): (380, 200, 170),
}


@pytest.mark.parametrize(("case", "rows_of"), SMALL.items())
def test_small_products_take_the_cycles_of_scalesim(case, rows_of):
    positions, depth, width, rows, columns = case
    for dataflow, expected in zip(("ws", "os", "is"), rows_of, strict=True):
        assert serial(product(positions, depth, width), rows, columns, dataflow).cycles[0] == expected - 1


# Source: SCALE-Sim 3.0.0, test/general/golden_trace_user_{ws,os,is}/COMPUTE_REPORT.csv, total less stall cycles.
@pytest.mark.parametrize(
    ("dataflow", "cycles"), [("ws", 52_447 - 41_248), ("os", 52_447 - 42_272), ("is", 19_984 - 5_777)]
)
def test_golden_runs_of_scalesim(dataflow, cycles):
    assert serial(product(256, 256, 128), 32, 32, dataflow).cycles[0] == cycles


# Source: the same runs' DETAILED_ACCESS_REPORT.csv. To the outputs of "os" SCALE-Sim adds rows + columns for each fold.
@pytest.mark.parametrize(
    ("dataflow", "words"),
    [
        ("ws", (262_144, 32_768, 262_144)),
        ("is", (65_536, 262_144, 262_144)),
        ("os", (262_144, 262_144, 34_816 - 32 * (32 + 32))),
    ],
)
def test_golden_accesses_of_scalesim(dataflow, words):
    assert tuple(int(n[0]) for n in serial_accesses(product(256, 256, 128), 32, 32, dataflow)) == words


def test_alexnet_of_scalesim():
    """Source: SCALE-Sim 3.0.0, test/general/golden_trace_calc/{COMPUTE,DETAILED_ACCESS}_REPORT.csv."""
    conv1 = product(55 * 55, 11 * 11 * 3, 96)
    time = serial(conv1, 32, 32, "ws")
    assert time.cycles[0] == 112_283
    assert [int(n[0]) for n in serial_accesses(conv1, 32, 32, "ws")] == [3_294_225, 34_848, 3_484_800]
    assert 100 * 55 * 55 * 363 * 96 / (1024 * time.cycles[0]) == pytest.approx(91.68309650614964, abs=1e-12)


def test_sparse_run_of_scalesim():
    """Source: SCALE-Sim 3.0.0, test/sparsity/golden_trace: two folds of 128 x 128."""
    assert serial(product(3025, 256, 128), 128, 128, "ws").cycles[0] == 173_949 - 167_136


def test_overlapped_as_scalesim_1():
    """Source: ARM-software/SCALE-Sim issue 51."""
    assert overlapped(product(256, 768, 256), 128, 128).cycles[0] == 4608


def test_scalesim_itself():
    pytest.importorskip("scalesim")
    from scalesim.compute.systolic_compute_is import systolic_compute_is
    from scalesim.compute.systolic_compute_os import systolic_compute_os
    from scalesim.compute.systolic_compute_ws import systolic_compute_ws
    from scalesim.scale_config import scale_config

    rng = np.random.default_rng(0)
    for dataflow, kind in (("ws", systolic_compute_ws), ("os", systolic_compute_os), ("is", systolic_compute_is)):
        for _ in range(5):
            positions, depth, width = (int(n) for n in rng.integers(1, 30, 3))
            rows, columns = (int(n) for n in rng.integers(2, 9, 2))
            settings_ = scale_config()
            settings_.get_array_dims = lambda dims=(rows, columns): dims
            settings_.sparsity_support = settings_.sparsity_optimized_mapping = False
            theirs = kind()
            theirs.set_params(
                config_obj=settings_,
                ifmap_op_mat=np.arange(positions * depth).reshape(positions, depth) * 1.0,
                filter_op_mat=np.arange(depth * width).reshape(depth, width) * 1.0,
                ofmap_op_mat=np.arange(positions * width).reshape(positions, width) * 1.0,
            )
            demand = theirs.get_demand_matrices()[2]
            case = product(positions, depth, width)
            assert serial(case, rows, columns, dataflow).cycles[0] == len(demand) - 1
            inputs, weights, outputs = (int(n[0]) for n in serial_accesses(case, rows, columns, dataflow))
            assert (inputs, weights) == (theirs.get_ifmap_requests(), theirs.get_filter_requests())
            if dataflow != "os":
                assert outputs == theirs.get_ofmap_requests()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_array_of_elements_computes_products_in_the_cycles_of_the_closed_form(data):
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    sizes = data.draw(st.lists(st.tuples(st.integers(1, 7), st.integers(1, rows)), min_size=1, max_size=6))
    folds = [(rng.integers(-9, 9, (sent, used)), rng.integers(-9, 9, (used, columns))) for sent, used in sizes]
    cycles, outputs = stepped(folds, rows, columns)
    assert all((output == a @ w).all() for output, (a, w) in zip(outputs, folds, strict=True))
    found = [block(sent, 1, 1, 1, used, band) for band, (sent, used) in enumerate(sizes)]
    time = double_buffered(found, 1, len(found), rows, columns, (1, 0, 0))
    assert time.cycles[0] == cycles


def block(sent, column_blocks, taps, row_blocks, last, band, waits=False):
    n = np.array
    return Block(n([sent]), n([column_blocks]), taps, n([row_blocks]), n([last]), n([1]), n([1]), band, waits)


def folds_of(found, rows):
    """The folds of a block, one after another."""
    sent, nests = int(found.positions[0]), int(found.nests[0])
    each = [rows] * (int(found.row_blocks[0]) - 1) + [int(found.last_rows[0])]
    return [(sent, r) for _ in range(nests) for r in each] if found.there[0] else []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_blocks_of_folds_take_the_cycles_of_the_stepped_controller(data):
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    latencies = data.draw(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 4)))
    small = st.integers(0, 3)
    found = [
        block(
            data.draw(st.integers(0, 9)), data.draw(small), data.draw(st.integers(1, 3)), data.draw(small),
            data.draw(st.integers(1, rows)), band,
        )
        for band in range(data.draw(st.integers(1, 4)))
    ]  # fmt: skip
    time = double_buffered(found, 1, len(found), rows, columns, latencies)
    expected = controller([fold for one in found for fold in folds_of(one, rows)], rows, columns, latencies)
    assert {cause: int(getattr(time, cause)[0]) for cause in _CAUSES} == expected
    assert time.by_band.sum() == time.cycles[0] - time.first_weights[0] - time.fill_drain[0]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_completions_wait_for_their_decisions(data):
    """base(0), base(1), completion(0), base(2), ..: whether a completion follows is known when its base is decided."""
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    latencies = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9)))
    order, questions, folds, last_of = [], [], [], {}
    for band in range(data.draw(st.integers(1, 2))):
        count = data.draw(st.integers(1, 3))
        names = [("base", band, 0)]
        for number in range(1, count):
            names += [("base", band, number), ("rest", band, number - 1)]
        order += [*names, ("rest", band, count - 1)]
    found = []
    for kind, band, number in order:
        rest = kind == "rest"
        sent = data.draw(st.integers(0 if rest else 1, 8))
        taps, row_blocks, last = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, rows)))
        one = block(sent, 1, taps, row_blocks, last, band, rest)
        found.append(one)
        mine = folds_of(one, rows)
        if rest:
            questions.append((len(folds), last_of[band, number], bool(mine)))
        folds += mine
        if not rest:
            last_of[band, number] = len(folds) - 1
    time = double_buffered(found, 1, order[-1][1] + 1, rows, columns, latencies)
    assert {cause: int(getattr(time, cause)[0]) for cause in _CAUSES} == controller(
        folds, rows, columns, latencies, questions
    )
    assert time.by_band.sum() == time.cycles[0] - time.first_weights[0] - time.fill_drain[0]


def test_many_images_are_as_one_by_one():
    rng = np.random.default_rng(0)
    n = 50

    def some(high, low=0):
        return rng.integers(low, high, n)

    found = [Block(some(9), some(3), 2, some(3), some(5, 1), some(4), some(4), band) for band in range(3)]
    whole = double_buffered(found, n, 3, 4, 4, (3, 6, 2)).cycles
    for image in range(n):
        alone = [
            block(*(int(x[image]) for x in (b.positions, b.column_blocks)), 2, int(b.row_blocks[image]),
                  int(b.last_rows[image]), b.band)
            for b in found
        ]  # fmt: skip
        assert double_buffered(alone, 1, 3, 4, 4, (3, 6, 2)).cycles[0] == whole[image]
