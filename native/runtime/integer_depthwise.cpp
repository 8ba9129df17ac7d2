// Depthwise convolutions of integers, channels along the vector's lanes.
#include <algorithm>
#include <array>

#include "depthwise.h"
#include "steps.h"

namespace convgate {
namespace {

template <typename Out>
class IntegerDepthwise final : public DepthwiseOf<std::uint8_t, Out, IntegerBlock> {
    using Base = DepthwiseOf<std::uint8_t, Out, IntegerBlock>;
    using Base::channels_, Base::point, Base::spec_;
    using typename Base::Run;

public:
    IntegerDepthwise(const ConvolutionSpec& spec, Needs& needs)
        : Base(spec, costs::integer_depthwise_macs),
          in_columns_(Base::slides(*spec.operation)),
          slots_(in_columns_ ? static_cast<int>(columns.size()) : spec.taps()),
          quads_(ceil_div(slots_, 4)) {
        const Operation& op = *spec_.operation;
        const int taps = spec_.taps(), excess = spec_.integers->excess(spec_.in->value.is_signed());
        words_ = BufferOf<std::int32_t>(static_cast<std::size_t>(quads_ + 3) * channels_);
        scale_ = Buffer(channels_);
        for (int c = 0; c < channels_; c++) {
            std::uint32_t start = static_cast<std::uint32_t>(op.bias.integers ? op.bias.integers[c] : 0);  // modulo 2^32, as sums
            for (int t = 0; t < slots_; t++) {
                if (in_columns_ && t % 4 == 3) continue;  // stands there for the second time
                const std::int8_t weight = op.weight.bytes[static_cast<std::size_t>(c) * taps + (in_columns_ ? columns[t] : t)];
                start -= static_cast<std::uint32_t>(excess * weight);
                const std::uint32_t bits = static_cast<std::uint8_t>(weight);
                words_[static_cast<std::size_t>(t / 4) * channels_ + c] |= static_cast<std::int32_t>(bits << t % 4 * 8);
            }
            words_[static_cast<std::size_t>(quads_) * channels_ + c] = static_cast<std::int32_t>(start);
            words_[static_cast<std::size_t>(quads_ + 1) * channels_ + c] = op.multiplier.integers ? op.multiplier.integers[c] : 0;
            words_[static_cast<std::size_t>(quads_ + 2) * channels_ + c] = op.shifts.integers ? op.shifts.integers[c] : 17;
            if (op.scale.data) scale_[c] = op.scale.data[c];
        }
        Needs mine = this->needs_for_positions();
        mine.blocks = channels_;
        mine.sample_packed = static_cast<std::size_t>(quads_ + 4) * channels_;
        needs.cover(mine);
    }

private:
    // Taps of a kernel of 3x3, column by column, as `Int8Depthwise` wants them.
    static constexpr std::array<int, 12> columns = {0, 3, 6, 6, 1, 4, 7, 7, 2, 5, 8, 8};

    // A run of `n` channels, with all that belongs to each of them in rows of as many words.
    IntegerBlock run_of(const std::int32_t* words, const float* scale, int in, int out, int n) const {
        IntegerBlock block;
        block.in_begin = in, block.in_channels = n, block.out_begin = out, block.width = n;
        block.words = words;
        block.start = words + static_cast<std::ptrdiff_t>(quads_) * n, block.multiplier = block.start + n, block.shift = block.multiplier + n;
        block.scale = scale;
        return block;
    }

    IntegerBlock whole() const override { return run_of(words_.data(), scale_.data(), 0, 0, channels_); }

    IntegerBlock packed(const std::int32_t* channels, int n, int in, int out, float*& to) const override {
        std::int32_t* const words = reinterpret_cast<std::int32_t*>(to);
        for (int r = 0; r < quads_ + 3; r++)
            for (int i = 0; i < n; i++) words[static_cast<std::ptrdiff_t>(r) * n + i] = words_[static_cast<std::size_t>(r) * channels_ + channels[i]];
        float* const scale = to + static_cast<std::ptrdiff_t>(quads_ + 3) * n;
        for (int i = 0; i < n; i++) scale[i] = scale_[channels[i]];
        to = scale + n;
        return run_of(words, scale, in, out, n);
    }

    void compute(const Run& run, const IntegerBlock& block, Scratch& scratch, int first, int positions) const override {
        point(run, scratch, first, positions, block.in_begin, block.out_begin);
        const Places<Out>& places = scratch.places<Out>();
        Int8Depthwise args{};
        args.rows = scratch.bytes.rows.data();
        args.taps = run.taps;
        args.tap_count = slots_;
        args.sliding = this->sliding(run);
        std::array<std::ptrdiff_t, columns.size()> taps;
        if (in_columns_) {
            std::transform(columns.begin(), columns.end(), taps.begin(), [&](int t) { return run.taps[t]; });
            args.taps = taps.data();
        }
        args.channels = block.width;
        args.is_signed = spec_.in->value.is_signed();
        args.weights = block.words;
        args.start = block.start;
        args.finish = spec_.finish(block.multiplier, block.shift);
        args.scale = block.scale;
        if constexpr (std::is_same_v<Out, std::uint8_t>) {
            args.addends = spec_.addend ? places.addends.data() : nullptr;
            args.outputs = places.outputs.data();
        } else {
            args.floats = places.outputs.data();
        }
        spec_.integers->depthwise(args, positions);
    }

    const bool in_columns_;
    const int slots_, quads_;  // for taps, and fours of them
    BufferOf<std::int32_t> words_;  // [four taps each], then starts, multipliers and shifts, of [channels]
    Buffer scale_;
};

}  // namespace

std::unique_ptr<Layer> make_integer_depthwise(const ConvolutionSpec& spec, Storage results, Needs& needs) {
    if (results == Storage::f32) return std::make_unique<IntegerDepthwise<float>>(spec, needs);
    return std::make_unique<IntegerDepthwise<std::uint8_t>>(spec, needs);
}

}  // namespace convgate
