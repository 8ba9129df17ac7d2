// Depthwise convolutions of integers, channels along the vector's lanes.
#include <algorithm>

#include "convolution.h"
#include "steps.h"

namespace convgate {
namespace {

constexpr long long least_macs = 1 << 15;

template <typename Out>
class IntegerDepthwise final : public ConvolutionOf<std::uint8_t, Out> {
    using Base = ConvolutionOf<std::uint8_t, Out>;
    using Base::begin, Base::chunk, Base::count, Base::fill, Base::fills, Base::point, Base::prepare_scatter, Base::spec_;
    using typename Base::Run;

public:
    IntegerDepthwise(const ConvolutionSpec& spec, Needs& needs) : Base(spec), channels_(spec.in->value.channels), quads_(ceil_div(spec.taps(), 4)) {
        const Operation& op = *spec_.operation;
        const int taps = spec_.taps(), excess = spec_.in->value.is_signed() ? spec_.integers->excess : 0;
        words_ = BufferOf<std::int32_t>(static_cast<std::size_t>(quads_ + 3) * channels_);
        scale_ = Buffer(channels_);
        for (int c = 0; c < channels_; c++) {
            std::int32_t start = op.bias.integers ? op.bias.integers[c] : 0;
            for (int t = 0; t < taps; t++) {
                const std::int8_t weight = op.weight.bytes[static_cast<std::size_t>(c) * taps + t];
                start -= excess * weight;
                const std::uint32_t bits = static_cast<std::uint8_t>(weight);
                words_[static_cast<std::size_t>(t / 4) * channels_ + c] |= static_cast<std::int32_t>(bits << t % 4 * 8);
            }
            words_[static_cast<std::size_t>(quads_) * channels_ + c] = start;
            words_[static_cast<std::size_t>(quads_ + 1) * channels_ + c] = op.multiplier.integers ? op.multiplier.integers[c] : 0;
            words_[static_cast<std::size_t>(quads_ + 2) * channels_ + c] = op.shifts.integers ? op.shifts.integers[c] : 17;
            if (op.scale.data) scale_[c] = op.scale.data[c];
        }
        Needs mine = this->needs_for_positions();
        mine.blocks = channels_;
        mine.sample_packed = static_cast<std::size_t>(quads_ + 4) * channels_;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        if (spec_.scatters()) prepare_scatter(run, team);
        const int open = choose_runs(run, s), taps = spec_.taps();
        const long long macs = static_cast<long long>(taps) * open;
        const Chunks parts(open ? run.count : 0, static_cast<int>(least_macs / std::max<long long>(macs, 1)) + 1, team);
        const Chunks rest = fills(run, team);
        team.run(parts.items + rest.items, [&](int item, int thread) {
            if (item >= parts.items) return fill(run, rest.begin(item - parts.items), rest.end(item - parts.items));
            const int end = parts.end(item);
            for (int first = parts.begin(item); first < end; first += chunk)
                for (const IntegerBlock& block : s.integer_blocks) compute(run, block, s.scratch[thread], first, std::min(chunk, end - first));
            count(s, macs * (end - parts.begin(item)));
        });
    }

private:
    // A run of `n` channels, with all that belongs to each of them in rows of as many words.
    IntegerBlock run_of(const std::int32_t* words, const float* scale, int in, int out, int n) const {
        IntegerBlock block;
        block.in_begin = in, block.in_channels = n, block.out_begin = out, block.width = n;
        block.words = words;
        block.start = words + static_cast<std::ptrdiff_t>(quads_) * n, block.multiplier = block.start + n, block.shift = block.multiplier + n;
        block.scale = scale;
        return block;
    }

    // Runs of channels that lie together in the input and in the output. Returns the number of open channels.
    int choose_runs(const Run& run, Sample& s) const {
        s.integer_blocks.clear();
        if (!run.out_open) {
            s.integer_blocks.push_back(run_of(words_.data(), scale_.data(), 0, 0, channels_));
            return channels_;
        }
        const std::vector<std::int32_t>& open = *run.out_open;
        const bool in_dense = !spec_.in->compact(), out_dense = !spec_.out->compact();
        const int n = static_cast<int>(open.size());
        std::int32_t* to = reinterpret_cast<std::int32_t*>(s.packed.data());
        float* scale = s.packed.data() + static_cast<std::ptrdiff_t>(quads_ + 3) * channels_;
        for (int j = 0; j < n;) {
            int length = 1;
            while (j + length < n && (!(in_dense || out_dense) || open[j + length] == open[j] + length)) length++;
            s.integer_blocks.push_back(run_of(to, scale, in_dense ? open[j] : j, out_dense ? open[j] : j, length));
            for (int r = 0; r < quads_ + 3; r++)
                for (int i = 0; i < length; i++) *to++ = words_[static_cast<std::size_t>(r) * channels_ + open[j + i]];
            for (int i = 0; i < length; i++) *scale++ = scale_[open[j + i]];
            j += length;
        }
        return n;
    }

    void compute(const Run& run, const IntegerBlock& block, Scratch& scratch, int first, int positions) const {
        point(run, scratch, first, positions, block.in_begin, block.out_begin);
        const Places<Out>& places = scratch.places<Out>();
        Int8Depthwise args{};
        args.rows = scratch.bytes.rows.data();
        args.taps = run.taps;
        args.tap_count = spec_.taps();
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

    const int channels_, quads_;
    BufferOf<std::int32_t> words_;  // [four taps each], then starts, multipliers and shifts, of [channels]
    Buffer scale_;
};

}  // namespace

std::unique_ptr<Layer> make_integer_depthwise(const ConvolutionSpec& spec, Storage results, Needs& needs) {
    if (results == Storage::f32) return std::make_unique<IntegerDepthwise<float>>(spec, needs);
    return std::make_unique<IntegerDepthwise<std::uint8_t>>(spec, needs);
}

}  // namespace convgate
