// Convolutions of integers with closed output channels, positions along the vector's lanes: any output channel can be left out,
// and what remains needs no packing but of the open inputs of each output's weights, which lie together. Sums are exact, so
// a few positions beyond whole vectors are computed one by one, inputs along the lanes.
#include <algorithm>
#include <cstring>

#include "along_lanes.h"
#include "shared.h"

namespace convgate {
namespace {

constexpr int least_positions = 48, most_positions = 1024;  // of the map
constexpr int least_outputs = 64, least_inputs = 128;      // fewer: to transpose inputs takes too large a part
constexpr int most_quads = 6144;      // of inputs at positions that are transposed at once: in the first-level cache
constexpr int most_single = 4;        // positions

class IntegerColumns final : public PositionsAlongLanes<std::uint8_t> {
public:
    IntegerColumns(const ConvolutionSpec& spec, Needs& needs)
        : PositionsAlongLanes(spec, spec.integers->lanes, most_single), excess_(spec.integers->excess(spec.in->value.is_signed())) {
        const Operation& op = *spec_.operation;
        const int ins = spec_.in_channels(), outs = spec_.out_channels(), area = op.kernel.y * op.kernel.x;
        BufferOf<std::uint8_t> ordered(static_cast<std::size_t>(outs) * output_size() + behind);
        following_.resize(3 * static_cast<std::size_t>(outs));
        std::uint8_t* to = ordered.data();
        for (int o = 0; o < outs; o++) {
            std::uint32_t sum = 0;
            for (int t = 0; t < taps_; t++)
                for (int i = 0; i < run_; i++, to++) {
                    const std::int8_t weight = op.weight.bytes[(static_cast<std::size_t>(o) * ins + i % ins) * area + t * spec_.joined() + i / ins];
                    *to = static_cast<std::uint8_t>(weight);
                    sum += static_cast<std::uint32_t>(weight);
                }
            // Modulo 2^32, as the kernels' sums.
            const std::uint32_t bias = op.bias.integers ? static_cast<std::uint32_t>(op.bias.integers[o]) : 0;
            following_[o] = static_cast<std::int32_t>(bias - static_cast<std::uint32_t>(excess_) * sum);
            following_[outs + o] = op.multiplier.integers[o];
            following_[2 * outs + o] = op.shifts.integers[o];
        }
        weights_ = SharedBufferOf<std::uint8_t>(std::move(ordered));
        const int outputs = std::min(outs, most_outputs);
        Needs mine = needs_along_lanes();
        mine.weights = 2 * outputs;
        mine.columns = most_quads;
        mine.accumulators = static_cast<std::size_t>(outputs) * (most_vectors * lanes_ + most_single);
        mine.scattered = static_cast<std::size_t>(outputs) * (max_vectors * lanes_ + 3);
        mine.weights_aside = static_cast<std::size_t>(outputs) * (step(lanes_) + behind) / sizeof(float) + behind;
        needs.cover(mine);
    }

private:
    static constexpr int behind = 64;  // elements that are read or written behind a row

    // Inputs whose quads are transposed at once.
    static int step(int positions) { return 4 * (most_quads / positions); }

    void compute(const Run& run, const std::vector<std::int32_t>& open, Scratch& scratch, int first, int count, int single, int begin, int n) const override {
        const Int8Kernels& k = *spec_.integers;
        point(run, scratch, first, count, 0, begin);
        const int in_lanes = count - single, vectors = ceil_div(in_lanes, lanes_), groups = ceil_div(vectors, max_vectors);
        const auto cut = [&](int group) { return vectors * group / groups; };
        const int ins = static_cast<int>(open.size()), at_once = step(ceil_div(vectors, groups) * lanes_);
        // Quads that lie together need not be picked.
        const bool all = ins == run_;
        const std::uint8_t** const weights = scratch.bytes.weights.data();
        const std::uint8_t** const sources = weights + n;
        for (int j = 0; j < n; j++) sources[j] = weights_.data() + (*run.out_open)[begin + j] * output_size();
        std::uint8_t* const picked = reinterpret_cast<std::uint8_t*>(scratch.weights_aside.data());
        const std::ptrdiff_t stride = at_once + behind;
        std::int32_t* const sums = reinterpret_cast<std::int32_t*>(scratch.accumulators.data());
        // The first weights come from memory while inputs are transposed.
        for (int i = 0; i < std::min(at_once, run_); i += 64)
            for (int j = 0; j < n; j++) __builtin_prefetch(sources[j] + i, 0, 2);
        Int8Columns args{};
        args.inputs = reinterpret_cast<const std::int32_t*>(scratch.columns.data());
        args.weights = weights;
        args.outputs = n;
        Int8Dots alone{};
        alone.rows = scratch.bytes.rows.data() + in_lanes;
        alone.positions = single;
        alone.is_signed = spec_.in->value.is_signed();
        alone.weights = weights;
        alone.outputs = n;
        alone.sums = sums + static_cast<std::ptrdiff_t>(vectors) * lanes_ * n;
        for (int t = 0; t < taps_; t++)
            for (int i = 0; i == 0 || i < ins; i += at_once) {
                const int some = std::min(at_once, ins - i);
                const std::ptrdiff_t tap = static_cast<std::ptrdiff_t>(t) * run_;
                if (!all && some > 0) k.pick(sources, tap, n, open.data() + i, some, picked, stride);
                for (int j = 0; j < n; j++) weights[j] = all ? sources[j] + tap + i : picked + j * stride;
                args.first = alone.first = t == 0 && i == 0;
                const int next = i + some < ins ? i + some : 0;
                args.ahead_offset = ins > 0 ? open[next] + (next ? tap : tap + run_) : 0;
                args.ahead_count = std::min(run_, at_once * run_ / std::max(ins, 1));
                for (int g = 0; g < groups; g++) {
                    const int lanes = (cut(g + 1) - cut(g)) * lanes_, p = cut(g) * lanes_;
                    transpose_quads(scratch, p, std::min(in_lanes - p, lanes), run.taps[t] + i, some, lanes);
                    args.quads = ceil_div(some, 4);
                    args.ahead = g == 0 && (next || t + 1 < taps_) ? sources : nullptr;
                    args.sums = sums + static_cast<std::ptrdiff_t>(p) * n;
                    k.columns[lanes / lanes_ - 1](args);
                }
                alone.offset = run.taps[t] + i;
                alone.count = some;
                if (single > 0) k.dots(alone);
            }
        Int8Rows rows{};
        describe(run, scratch, begin, n, rows);
        for (int g = 0; g < groups; g++) finish(scratch, rows, sums, cut(g) * lanes_, in_lanes, (cut(g + 1) - cut(g)) * lanes_);
        if (single > 0) finish_rows(scratch, rows, alone.sums, in_lanes, single);
    }

    // `n` inputs from `offset` on of `count` positions from p on, as quads with `lanes` positions in a row.
    void transpose_quads(Scratch& scratch, int p, int count, std::ptrdiff_t offset, int n, int lanes) const {
        const std::uint8_t* const* const from = scratch.bytes.rows.data() + p;
        float* const to = scratch.columns.data();
        for (int i = 0; i < count; i++) scratch.rows[i] = reinterpret_cast<const float*>(from[i] + offset);
        spec_.kernels->transpose(scratch.rows.data(), 0, count, n / 4, to, lanes);
        std::int32_t* const quads = reinterpret_cast<std::int32_t*>(to);
        if (n % 4)
            for (int i = 0; i < count; i++) {
                std::int32_t quad = 0;
                std::memcpy(&quad, from[i] + offset + n / 4 * 4, n % 4);
                quads[static_cast<std::ptrdiff_t>(n / 4) * lanes + i] = quad;
            }
        if (excess_)
            for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(ceil_div(n, 4)) * lanes; i++) quads[i] ^= static_cast<std::int32_t>(0x80808080u);
    }

    // What follows the sums of these open outputs.
    void describe(const Run& run, Scratch& scratch, int begin, int n, Int8Rows& rows) const {
        std::int32_t* const to = reinterpret_cast<std::int32_t*>(scratch.scattered.data()) + static_cast<std::ptrdiff_t>(max_vectors) * lanes_ * n;
        const int outs = spec_.out_channels();
        for (int kind = 0; kind < 3; kind++)
            for (int j = 0; j < n; j++) to[kind * n + j] = following_[static_cast<std::size_t>(kind) * outs + (*run.out_open)[begin + j]];
        rows.start = to;
        rows.width = n;
        rows.finish = spec_.finish(to + n, to + 2 * n);
    }

    // From one output's positions to one position's outputs, and to their place.
    void finish(Scratch& scratch, Int8Rows& rows, const std::int32_t* sums, int p, int count, int lanes) const {
        sums += static_cast<std::ptrdiff_t>(p) * rows.width;
        for (int j = 0; j < rows.width; j++) scratch.weights[j] = reinterpret_cast<const float*>(sums + static_cast<std::ptrdiff_t>(j) * lanes);
        const int positions = std::min(count - p, lanes);
        spec_.kernels->transpose(scratch.weights.data(), 0, rows.width, positions, scratch.scattered.data(), rows.width);
        finish_rows(scratch, rows, reinterpret_cast<const std::int32_t*>(scratch.scattered.data()), p, positions);
    }

    void finish_rows(Scratch& scratch, Int8Rows& rows, const std::int32_t* sums, int p, int positions) const {
        for (int i = 0; i < positions; i++) scratch.sums.rows[i] = sums + static_cast<std::ptrdiff_t>(i) * rows.width;
        rows.sums = scratch.sums.rows.data();
        rows.positions = positions;
        rows.addends = spec_.addend ? scratch.bytes.addends.data() + p : nullptr;
        rows.outputs = scratch.bytes.outputs.data() + p;
        spec_.integers->finish(rows);
    }

    const int excess_;
    SharedBufferOf<std::uint8_t> weights_;  // [output][tap][run]: bytes with a sign
    std::vector<std::int32_t> following_;  // biases, less what inputs are read too large; multipliers; shifts
};

}  // namespace

bool suits_integer_columns(const ConvolutionSpec& spec) {
    const int positions = spec.out->value.positions();
    const Operation& op = *spec.operation;
    return spec.integers->columns[0] && op.groups == 1 && spec.masks_channels() && !spec.scatters() &&
           integral(spec.out->value.storage) && !summed(spec.out->value.storage) &&
           (op.in_channels < 0 || !spec.integers->excess(spec.in->value.is_signed())) && spec.in_channels() * spec.joined() % 4 == 0 &&
           positions > least_positions && positions <= most_positions && spec.out_channels() >= least_outputs &&
           spec.in_channels() * op.kernel.y * op.kernel.x >= least_inputs;
}

std::unique_ptr<Layer> make_integer_columns(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<IntegerColumns>(spec, needs);
}

}  // namespace convgate
