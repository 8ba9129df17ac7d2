import numpy as np
import pytest
from tests.hardware.programs import engine_of, masks_of, trace_of

from convgate.hardware import Trace, accelerator
from convgate.hardware.accesses import CONVENTIONS, access_cut

MACHINE = accelerator("cgnet-asic")


def words_by_hand(program, masks):
    """Needed words of one image of a channel-gated network, counted layer by layer: inputs, weights, outputs."""
    total = 0
    values = {value.name: value for value in program.values}
    kinds = {type(op).__name__: [] for op in program.operations}
    for op in program.operations:
        kinds[type(op).__name__].append(op)
    bases = {op.inputs[1] for op in kinds["Complete"]}
    for op in [*kinds["Conv"], *kinds["Complete"]]:
        if op.output in bases:
            continue
        x, out = values[op.inputs[0]], values[op.output]
        weight = program.arrays[op.weight]
        taps, positions = weight.shape[2] * weight.shape[3], out.height * out.width
        read = np.zeros((x.height + 2, x.width + 2), bool)
        pad = op.padding[0]
        for y in range(out.height):
            for z in range(out.width):
                row, column = y * op.stride[0] - pad + 1, z * op.stride[1] - pad + 1
                read[row : row + weight.shape[2], column : column + weight.shape[3]] = True
        inputs = int(read[1 : x.height + 1, 1 : x.width + 1].sum())
        if op.inputs[0] in program.inputs:
            inputs = positions * taps  # images are sent tap by tap
        if type(op).__name__ == "Conv":
            total += inputs * x.channels + weight.size + positions * out.channels
        else:
            # In groups, every input is in somebody's base path.
            base = program.arrays[next(o.weight for o in kinds["Conv"] if o.output == op.inputs[1])]
            open_ = int(masks[op.gate].reshape(out.channels, -1).any(1).sum())
            total += inputs * x.channels + base.size + open_ * taps * weight.shape[1] + positions * out.channels
        if len(op.inputs) > (1 if type(op).__name__ == "Conv" else 2):
            total += positions * out.channels  # what is added
    pool = next(op for op in kinds["PoolToGrid"])
    return total + values[pool.output].channels  # summed on the way, and written


def test_needed_words_are_those_counted_by_hand():
    program = engine_of("channel")[0].program
    masks = masks_of(program, 3, 0.02)
    cut = access_cut(program, Trace.of(program, masks), MACHINE)["compulsory"]
    all_open = {name: np.ones_like(mask[0]) for name, mask in masks.items()}
    dense = words_by_hand(program, all_open)
    for image in range(3):
        mine = words_by_hand(program, {name: mask[image] for name, mask in masks.items()})
        assert cut[image] == pytest.approx(dense / mine, rel=1e-12)


@pytest.mark.parametrize("method", ["channel", "channel_first", "dual"])
def test_ways_of_counting_bracket_each_other(method):
    program = engine_of(method)[0].program
    found = access_cut(program, trace_of(program, 4, 0.1), MACHINE)
    assert set(found) == set(CONVENTIONS)
    assert (found["per operand"] > found["compulsory"]).all()
    assert all(len(cut) == 4 for cut in found.values())
