// Convolutions of integers with closed output channels, positions along the vector's lanes. Sums are exact, so a few positions
// beyond whole vectors are computed one by one, inputs along the lanes.
#include "along_lanes.h"

namespace convgate {
namespace {

constexpr int most_single = 4;  // positions

class IntegerColumns final : public PositionsAlongLanes<std::uint8_t> {
    static constexpr int behind = 64;  // bytes that are read or written behind a row

public:
    IntegerColumns(const ConvolutionSpec& spec, Needs& needs)
        : PositionsAlongLanes(spec, spec.integers->lanes, needs, spec.in_channels() * spec.joined(), most_single,
                              spec.integers->excess(spec.in->value.is_signed()) != 0),
          output_size_(static_cast<std::size_t>(taps_) * run_),
          following_(3 * static_cast<std::size_t>(spec.out_channels())) {
        const Operation& op = *spec_.operation;
        const int outs = spec_.out_channels(), excess = spec.integers->excess(spec.in->value.is_signed());
        BufferOf<std::uint8_t> ordered(outs * output_size_ + behind);
        std::uint8_t* to = ordered.data();
        for (int o = 0; o < outs; o++) {
            std::uint32_t sum = 0;  // modulo 2^32, as the kernels' sums
            for (int t = 0; t < taps_; t++)
                for (int i = 0; i < run_; i++, to++) {
                    const std::int8_t weight = op.weight.bytes[spec_.weight_at(o, t, i)];
                    *to = static_cast<std::uint8_t>(weight);
                    sum += static_cast<std::uint32_t>(weight);
                }
            const std::uint32_t bias = op.bias.integers ? static_cast<std::uint32_t>(op.bias.integers[o]) : 0;
            following_[o] = static_cast<std::int32_t>(bias - static_cast<std::uint32_t>(excess) * sum);
            following_[outs + o] = op.multiplier.integers[o];
            following_[2 * outs + o] = op.shifts.integers[o];
        }
        weights_ = SharedBufferOf<std::uint8_t>(std::move(ordered));
        const int outputs = std::min(outs, costs::outputs_at_once);
        Needs mine;
        mine.lists = run_;
        mine.weights = 2 * outputs;
        mine.weights_aside = static_cast<std::size_t>(outputs) * (inputs_at_once(lanes_) + behind) / sizeof(float) + behind;
        needs.cover(mine);
    }

private:
    // The open inputs of a run, as they lie in a row of weights; each output is a piece.
    Open list(const Run& run, Sample& s) const override {
        s.lists.clear();
        if (!run.in_open)
            for (int i = 0; i < run_; i++) s.lists.push_back(i);
        else
            for (int tap = 0; tap < spec_.joined(); tap++)
                for (const std::int32_t c : *run.in_open) s.lists.push_back(tap * spec_.in_channels() + c);
        return {static_cast<int>(s.lists.size()), static_cast<int>(run.out_open->size()), costs::outputs_at_once};
    }
    Outputs outputs_of(const Sample&, Pieces pieces) const override { return {pieces.begin, pieces.end - pieces.begin}; }

    void add(const Item& item, const Groups& groups, const Step& step) const override {
        const int n = item.outputs, at_once = groups.inputs;
        const std::int32_t* const open = item.sample.lists.data();
        // Words that lie together need not be picked.
        const bool all = item.inputs == run_ && run_ % in_word == 0;
        const std::uint8_t** const weights = item.scratch.bytes.weights.data();
        const std::uint8_t** const sources = weights + n;
        if (step.is_first) {
            for (int j = 0; j < n; j++) sources[j] = weights_.data() + item.output(j) * output_size_;
            // The first weights come from memory while inputs are transposed.
            for (int i = 0; i < std::min(at_once, run_); i += behind)
                for (int j = 0; j < n; j++) __builtin_prefetch(sources[j] + i, 0, 2);
        }
        const std::ptrdiff_t tap = static_cast<std::ptrdiff_t>(step.tap) * run_, next_tap = static_cast<std::ptrdiff_t>(step.next_tap) * run_;
        const std::ptrdiff_t stride = at_once + behind;
        std::uint8_t* const picked = reinterpret_cast<std::uint8_t*>(item.scratch.weights_aside.data());
        if (!all && step.count > 0) spec_.integers->pick(sources, tap, n, open + step.begin, step.count, picked, stride);
        for (int j = 0; j < n; j++) weights[j] = all ? sources[j] + tap + step.begin : picked + j * stride;
        Int8Columns args{};
        args.words = ceil_div(step.count, in_word);
        args.weights = weights;
        args.outputs = n;
        args.first = step.is_first;
        args.ahead = step.is_last ? nullptr : sources;
        args.ahead_offset = next_tap + (item.inputs > 0 ? open[step.next_begin] : 0);
        args.ahead_count = static_cast<int>(std::min<long long>(run_, static_cast<long long>(at_once) * run_ / std::max(item.inputs, 1)));
        for (const Group& group : groups) {
            args.inputs = transposed(item, group, item.run.taps[step.tap] + step.begin, step.count);
            args.sums = sums_of(item, group);
            spec_.integers->columns[group.width / lanes_ - 1](args);
            args.ahead = nullptr;
        }
        if (item.single > 0) add_single(item, weights, item.run.taps[step.tap] + step.begin, step.count, step.is_first);
    }

    void add_single(const Item& item, const std::uint8_t* const* weights, std::ptrdiff_t offset, int count, bool first) const {
        Int8Dots args{};
        args.rows = item.scratch.bytes.rows.data() + item.in_lanes();
        args.positions = item.single;
        args.offset = offset;
        args.count = count;
        args.is_signed = spec_.in->value.is_signed();
        args.weights = weights;
        args.outputs = item.outputs;
        args.first = first;
        args.sums = sums_of_single(item);
        spec_.integers->dots(args);
    }

    void complete(const Item& item, const Groups& groups) const override {
        const int n = item.outputs, outs = spec_.out_channels();
        std::int32_t* const numbers = following(item);
        for (int kind = 0; kind < 3; kind++)
            for (int j = 0; j < n; j++) numbers[kind * n + j] = following_[static_cast<std::size_t>(kind) * outs + item.output(j)];
        Int8Rows args{};
        args.start = numbers;
        args.width = n;
        args.finish = spec_.finish(numbers + n, numbers + 2 * n);
        for (const Group& group : groups) finish(item, args, by_position(item, group), group.begin, group.count);
        if (item.single > 0) finish(item, args, sums_of_single(item), item.in_lanes(), item.single);
    }

    // Sums [position][output] of positions [p, p + count).
    void finish(const Item& item, Int8Rows& args, const std::int32_t* sums, int p, int count) const {
        Scratch& scratch = item.scratch;
        for (int i = 0; i < count; i++) scratch.sums.rows[i] = sums + static_cast<std::ptrdiff_t>(i) * item.outputs;
        args.sums = scratch.sums.rows.data();
        args.positions = count;
        args.outputs = scratch.bytes.outputs.data() + p;
        spec_.integers->finish(args);
    }

    const std::size_t output_size_;          // of weights
    SharedBufferOf<std::uint8_t> weights_;   // [output][tap][run]
    std::vector<std::int32_t> following_;  // biases, less what inputs are read too large; multipliers; shifts
};

}  // namespace

bool suits_integer_columns(const ConvolutionSpec& spec) {
    // What sums start at would depend on which inputs are closed, where these are read as if they were larger.
    const bool starts_alike = spec.operation->in_channels < 0 || !spec.integers->excess(spec.in->value.is_signed());
    return spec.integers->columns[0] && integral(spec.out->value.storage) && !summed(spec.out->value.storage) && starts_alike &&
           suits_along_lanes(spec, costs::bytes_along_lanes);
}

std::unique_ptr<Layer> make_integer_columns(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<IntegerColumns>(spec, needs);
}

}  // namespace convgate
