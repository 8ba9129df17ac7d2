// Convolutions in bfloat16 with closed output channels, positions along the vector's lanes: any output channel can be left
// out, and what remains needs no packing but of the open inputs of each output's weights, which lie together. Sums are those
// of product_bf16.cpp, added in the same order.
#include <algorithm>
#include <cstring>

#include "along_lanes.h"
#include "halves.h"
#include "shared.h"

namespace convgate {
namespace {

constexpr int least_positions = 48, most_positions = 1024;  // of the map
constexpr int least_outputs = 128, least_inputs = 256;      // fewer: to transpose inputs takes too large a part
constexpr int most_pairs = 6144;            // of inputs at positions that are transposed at once: in the first-level cache

class HalfColumns final : public PositionsAlongLanes<Bf16> {
public:
    // No position by itself: what is added in which order would depend on how many others are open.
    HalfColumns(const ConvolutionSpec& spec, Needs& needs) : PositionsAlongLanes(spec, spec.halves->lanes, 0) {
        const Operation& op = *spec_.operation;
        const int ins = spec_.in_channels(), outs = spec_.out_channels(), area = op.kernel.y * op.kernel.x;
        BufferOf<Bf16> ordered(static_cast<std::size_t>(outs) * output_size() + behind);
        bias_ = Buffer(outs);
        Bf16* to = ordered.data();
        for (int o = 0; o < outs; o++) {
            if (op.bias.data) bias_[o] = op.bias.data[o];
            for (int t = 0; t < taps_; t++)
                for (int i = 0; i < run_; i++)
                    *to++ = rounded(stored_as<Bf16>(op.weight, (static_cast<std::size_t>(o) * ins + i % ins) * area + t * spec_.joined() + i / ins));
        }
        weights_ = SharedBufferOf<Bf16>(std::move(ordered));
        const int outputs = std::min(outs, most_outputs);
        Needs mine = needs_along_lanes();
        mine.weights = 2 * outputs;
        mine.columns = most_pairs;
        mine.accumulators = static_cast<std::size_t>(outputs) * most_vectors * lanes_;
        mine.scattered = static_cast<std::size_t>(outputs) * spec_.halves->vectors * lanes_ + outputs;
        mine.weights_aside = static_cast<std::size_t>(outputs) * (step(lanes_) + behind) / 2 + behind;
        needs.cover(mine);
    }

private:
    static constexpr int behind = 32;  // elements that are read or written behind a row

    // Inputs whose pairs are transposed at once.
    static int step(int positions) { return 2 * (most_pairs / positions); }

    void compute(const Run& run, const std::vector<std::int32_t>& open, Scratch& scratch, int first, int count, int, int begin, int n) const override {
        const Bf16Kernels& k = *spec_.halves;
        point(run, scratch, first, count, 0, begin);
        const int vectors = ceil_div(count, lanes_), groups = ceil_div(vectors, k.vectors);
        const auto cut = [&](int group) { return vectors * group / groups; };
        const int ins = static_cast<int>(open.size()), at_once = step(ceil_div(vectors, groups) * lanes_);
        // Pairs that lie together need not be picked.
        const bool all = ins == run_ && run_ % 2 == 0;
        const Bf16** const weights = scratch.halves.weights.data();
        const Bf16** const sources = weights + n;
        for (int j = 0; j < n; j++) sources[j] = weights_.data() + (*run.out_open)[begin + j] * output_size();
        Bf16* const picked = reinterpret_cast<Bf16*>(scratch.weights_aside.data());
        const std::ptrdiff_t stride = at_once + behind;
        Bf16Columns args{};
        args.inputs = scratch.columns.data();
        args.weights = weights;
        args.outputs = n;
        args.first = true;
        for (int t = 0; t < taps_; t++)
            for (int i = 0; i == 0 || i < ins; i += at_once) {
                const int some = std::min(at_once, ins - i), next = i + some < ins ? i + some : 0;
                const std::ptrdiff_t tap = static_cast<std::ptrdiff_t>(t) * run_;
                if (!all && some > 0) k.pick(sources, tap, n, open.data() + i, some, picked, stride);
                for (int j = 0; j < n; j++) weights[j] = all ? sources[j] + tap + i : picked + j * stride;
                const std::ptrdiff_t later = ins > 0 ? open[next] + (next ? tap : tap + run_) : 0;
                for (int g = 0; g < groups; g++) {
                    const int lanes = (cut(g + 1) - cut(g)) * lanes_, p = cut(g) * lanes_;
                    transpose_pairs(scratch, p, std::min(count - p, lanes), run.taps[t] + i, some, lanes);
                    args.pairs = ceil_div(some, 2);
                    args.sums = scratch.accumulators.data() + static_cast<std::ptrdiff_t>(p) * n;
                    args.ahead = g == 0 && (next || t + 1 < taps_) ? sources : nullptr;
                    args.ahead_offset = later;
                    args.ahead_count = std::min(run_, at_once * run_ / std::max(ins, 1));
                    k.columns[lanes / lanes_ - 1](args);
                }
                args.first = false;
            }
        for (int g = 0; g < groups; g++) finish(run, scratch, cut(g) * lanes_, count, (cut(g + 1) - cut(g)) * lanes_, begin, n);
    }

    // `n` inputs from `offset` on of `count` positions from p on, as pairs with `lanes` positions in a row.
    void transpose_pairs(Scratch& scratch, int p, int count, std::ptrdiff_t offset, int n, int lanes) const {
        const Bf16* const* const from = scratch.halves.rows.data() + p;
        float* const to = scratch.columns.data();
        for (int i = 0; i < count; i++) scratch.rows[i] = reinterpret_cast<const float*>(from[i] + offset);
        spec_.kernels->transpose(scratch.rows.data(), 0, count, n / 2, to, lanes);
        if (n % 2 == 0) return;
        for (int i = 0; i < count; i++) {
            const std::uint32_t pair = from[i][offset + n - 1].bits;
            std::memcpy(to + static_cast<std::ptrdiff_t>(n / 2) * lanes + i, &pair, sizeof(pair));
        }
    }

    // From one output's positions to one position's outputs, and to their place.
    void finish(const Run& run, Scratch& scratch, int p, int count, int lanes, int begin, int n) const {
        const Kernels& k = *spec_.kernels;
        const float* const sums = scratch.accumulators.data() + static_cast<std::ptrdiff_t>(p) * n;
        for (int j = 0; j < n; j++) {
            scratch.weights[j] = sums + static_cast<std::ptrdiff_t>(j) * lanes;
            scratch.weights_aside[j] = bias_[(*run.out_open)[begin + j]];
        }
        const int positions = std::min(count - p, lanes);
        float* row = scratch.scattered.data();
        k.transpose(scratch.weights.data(), 0, n, positions, row, n);
        for (int i = 0; i < positions; i++, row += n) {
            k.add(row, row, scratch.weights_aside.data(), n, Activation::none);
            finish_row(*spec_.halves, row, spec_.addend ? scratch.halves.addends[p + i] : nullptr, n, scratch.halves.outputs[p + i],
                       [&](float* sum, int width) { activate(sum, width); });
        }
    }

    SharedBufferOf<Bf16> weights_;  // [output][tap][run]
    Buffer bias_;
};

}  // namespace

bool suits_bf16_columns(const ConvolutionSpec& spec) {
    const int positions = spec.out->value.positions();
    return spec.halves->columns[0] && spec.operation->groups == 1 && spec.masks_channels() && !spec.scatters() &&
           spec.out->value.storage == Storage::bf16 && positions > least_positions && positions <= most_positions &&
           spec.out_channels() >= least_outputs && spec.in_channels() * spec.operation->kernel.y * spec.operation->kernel.x >= least_inputs;
}

std::unique_ptr<Layer> make_bf16_columns(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<HalfColumns>(spec, needs);
}

}  // namespace convgate
