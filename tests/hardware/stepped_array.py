"""The array, stepped cycle by cycle: what the closed forms of `convgate.hardware.timing` are compared with."""

from collections import defaultdict
from itertools import pairwise

import numpy as np


def stepped(folds, rows, columns, of_sums=1):
    """(cycles, outputs by fold) of folds (activations [T, r], weights [r, columns]) on an array of processing elements.

    Each element holds a weight and a shadow of the next; weights move down their column until they find an empty
    shadow, and a flip that travels with a fold's first activation makes shadows current. Unused rows are sent junk.
    """
    begins, starts = [0], [folds[0][1].shape[0]]
    for before, (_, weights) in pairwise(folds):
        begins.append(starts[-1])
        starts.append(starts[-1] + max(before[0].shape[0], weights.shape[0], of_sums))
    sent, loads, leaving = defaultdict(list), defaultdict(list), defaultdict(list)
    outputs = [np.zeros((activations.shape[0], columns), int) for activations, _ in folds]
    for number, (activations, weights) in enumerate(folds):
        for row, values in enumerate(weights):
            for column in range(columns):
                loads[begins[number] + row + column].append((column, values[column]))
        for time in range(activations.shape[0]):
            for row in range(rows):
                value = activations[time, row] if row < activations.shape[1] else 99
                sent[starts[number] + time + row].append((row, value, time == 0))
            for column in range(columns):
                leaving[starts[number] + time + rows + column].append((number, time, column))
    shape = rows, columns
    active, shadow, full = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape, bool)
    a, flip, sums = np.zeros(shape, int), np.zeros(shape, bool), np.zeros(shape, int)
    passing, moving = np.zeros(shape, bool), np.zeros(shape, int)
    last = max(leaving)
    for cycle in range(last + 1):
        for number, time, column in leaving[cycle]:
            outputs[number][time, column] = sums[rows - 1, column]
        a_in, flip_in, sums_in = np.roll(a, 1, 1), np.roll(flip, 1, 1), np.roll(sums, 1, 0)
        a_in[:, 0], flip_in[:, 0], sums_in[0] = 0, False, 0
        for row, value, first in sent[cycle]:
            a_in[row, 0], flip_in[row, 0] = value, first
        passing_in, moving_in = np.roll(passing, 1, 0), np.roll(moving, 1, 0)
        passing_in[0] = False
        for column, value in loads[cycle]:
            passing_in[0, column], moving_in[0, column] = True, value
        now = np.where(flip_in, np.where(full, shadow, 0), active)
        still_full = full & ~flip_in
        taken = passing_in & ~still_full
        assert not (passing_in & ~taken)[rows - 1].any(), "a weight fell out of the array"
        sums = sums_in + now * a_in
        active, shadow, full = now, np.where(taken, moving_in, shadow), still_full | taken
        a, flip, passing, moving = a_in, flip_in, passing_in & ~taken, moving_in
    return last + 1, outputs


def controller(folds, rows, columns, latencies, questions=()):
    """Cycles by cause of folds (T, r), stepped one cycle at a time.

    `questions` are (fold, base, open): before `fold` can be loaded, or nothing follows if there is none of that number,
    the sums of the fold `base` must be decided on; whoever finds nothing `open` there looks on in the next cycle.
    In each cycle the sequencer sends a position if it can, and the loader a row of the next fold.
    """
    of_sums, of_output, of_decision = latencies
    causes = dict.fromkeys(("compute", "weights", "first_weights", "decisions"), 0)
    cycle, loaded, current, since, ends = 0, 0, -1, 0, {}
    left = 0

    def known(fold):
        ready = (
            ends.get(b, 1 << 30) + rows + columns - 1 + of_decision + (not o) for f, b, o in questions if f <= fold
        )
        return all(cycle >= one for one in ready)

    while current < len(folds) - 1 or left:
        following = current + 1
        more = following < len(folds)
        if not left and more:
            rested = current < 0 or since >= of_sums
            if loaded >= folds[following][1] and rested:
                current, left, since, loaded = following, folds[following][0], 0, 0
                more = current + 1 < len(folds)
                following = current + 1
            elif current < 0:
                causes["first_weights"] += 1
            else:
                causes["weights" if known(following) else "decisions"] += 1
        if more and known(following) and loaded < folds[following][1]:
            loaded += 1
        if left:
            left -= 1
            causes["compute"] += 1
            if not left:
                ends[current] = cycle + 1
        since += 1
        cycle += 1
    causes["fill_drain"] = rows + columns - 1 + of_output if folds else 0
    while not known(len(folds)) and causes["fill_drain"]:
        causes["decisions"] += 1
        causes["fill_drain"] -= 1
        cycle += 1
    return causes
