// A long product in steps that keep the weights of each step in the first-level cache while all positions use them.
#pragma once

#include <algorithm>

#include "../kernels/table.h"
#include "costs.h"

namespace convgate {

// Where the sums of a product are cut: where pairs of inputs are added at once, between pairs, so that what is added in
// which order does not depend on where that is.
struct Cut {
    int elements;  // of weights in a step
    int multiple;
};
inline Cut cut_of(const Kernels&) { return {costs::step_bytes / static_cast<int>(sizeof(float)), 1}; }
inline Cut cut_of(const Bf16Kernels&) { return {costs::step_bytes / static_cast<int>(sizeof(Bf16)), 2}; }

// The weights of a product: row (tap, i) is at weights + tap * tap_stride + row(i) * vectors * lanes.
template <typename T>
struct BlockWeightsOf {
    const T* weights;
    std::ptrdiff_t tap_stride;
    const std::int32_t* rows;  // row(i), or null: i
    int vectors;
};
using BlockWeights = BlockWeightsOf<float>;

// Of a product of several pieces: whether it is the first, and whether it is the last and so writes the results.
struct Piece {
    bool first = true, last = true;
};

// `args` with everything but what changes from step to step; `in` inputs of each of `taps` taps; `count` positions.
template <typename Table, typename Args, typename T>
inline void product_in_steps(const Table& kernels, Args args, const std::ptrdiff_t* taps, int tap_count, int in,
                             const BlockWeightsOf<T>& block, int count, Piece piece = {}) {
    const int row = block.vectors * kernels.lanes;
    const Cut cut = cut_of(kernels);
    args.tap_stride = args.ahead_tap = block.tap_stride;
    args.ahead.stride = row;
    args.weight_rows = block.rows;
    // Either several whole taps at once, or a part of one tap's inputs.
    const int rows_at_once = std::max(cut.elements / row, cut.multiple);
    const int parts = std::max(ceil_div(in, rows_at_once), 1);
    const int taps_at_once = parts > 1 ? 1 : std::max(rows_at_once / std::max(in, 1), 1);
    const int steps = parts > 1 ? tap_count * parts : ceil_div(tap_count, taps_at_once);
    const auto tap_of = [&](int step) { return parts > 1 ? step / parts : even_part(tap_count, step, steps); };
    const auto bound = [&](int part) { return part == parts ? in : even_part(in, part, parts) / cut.multiple * cut.multiple; };
    const auto begin_of = [&](int step) { return bound(step % parts); };
    const auto end_of = [&](int step) { return bound(step % parts + 1); };
    for (int step = 0; step < steps; step++) {
        const int tap = tap_of(step), next_tap = tap_of(step + 1), next_begin = begin_of(step + 1);
        args.taps = taps + tap;
        args.tap_count = parts > 1 ? 1 : next_tap - tap;
        args.begin = begin_of(step);
        args.end = end_of(step);
        args.first = piece.first && step == 0;
        args.last = piece.last && step == steps - 1;
        args.weights = block.weights + tap * block.tap_stride;
        const int later = end_of(step + 1) - next_begin;
        const T* ahead = block.weights + next_tap * block.tap_stride;
        // Even tiles: none is so small that its product waits for weights.
        args.positions = count;
        const int tiles = ceil_div(count, kernels.tile[block.vectors - 1]);
        for (int i = 0; i < tiles; i++) {
            const int begin = count * i / tiles, end = count * (i + 1) / tiles;
            const int from = later * i / tiles;
            args.ahead.rows = block.rows ? block.rows + next_begin + from : nullptr;
            args.ahead.weights = block.rows ? ahead : ahead + static_cast<std::ptrdiff_t>(next_begin + from) * row;
            args.ahead.count = later * (i + 1) / tiles - from;
            kernels.product[block.vectors - 1][end - begin - 1](args, begin);
        }
    }
}

}  // namespace convgate
