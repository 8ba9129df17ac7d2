// Depthwise convolutions, channels along the vector's lanes. Weights are float32 whatever maps are stored as: they are few,
// and a sum of nine products hides no error of theirs.
#include "depthwise.h"

#include <algorithm>
#include <cmath>

#include "halves.h"

namespace convgate {
namespace {

template <typename In, typename Out>
class DepthwiseConvolution final : public DepthwiseOf<In, Out, Block> {
    using Base = DepthwiseOf<In, Out, Block>;
    using Base::activate, Base::channels_, Base::chunk, Base::point, Base::spec_;
    using typename Base::Run;

public:
    DepthwiseConvolution(const ConvolutionSpec& spec, Needs& needs) : Base(spec, costs::depthwise_macs) {
        const Operation& op = *spec_.operation;
        const int channels = channels_, taps = spec_.taps();
        weights_ = Buffer(op.weight.size());
        bias_ = Buffer(channels);
        for (int c = 0; c < channels; c++) {
            if (op.bias.data) bias_[c] = op.bias.data[c];
            for (int t = 0; t < taps; t++)
                weights_[static_cast<std::size_t>(t) * channels + c] = stored_as<float>(op.weight, static_cast<std::size_t>(c) * taps + t);
        }
        Needs mine = this->needs_for_positions();
        if (!std::is_same_v<In, float> && !bounds_of(op.activation)) mine.scattered = static_cast<std::size_t>(chunk) * channels;
        mine.blocks = channels;
        mine.sample_packed = static_cast<std::size_t>(taps + 1) * channels;
        needs.cover(mine);
    }

private:
    Block whole() const override {
        return {.in_channels = channels_, .width = channels_, .weights = weights_.data(), .bias = bias_.data()};
    }

    Block packed(const std::int32_t* channels, int n, int in, int out, float*& to) const override {
        const float* const weights = to;
        for (int t = 0; t < spec_.taps(); t++)
            for (int i = 0; i < n; i++) *to++ = weights_[static_cast<std::size_t>(t) * channels_ + channels[i]];
        const float* const bias = to;
        for (int i = 0; i < n; i++) *to++ = bias_[channels[i]];
        return {.in_begin = in, .in_channels = n, .out_begin = out, .width = n, .weights = weights, .bias = bias};
    }

    void compute(const Run& run, const Block& block, Scratch& scratch, int first, int positions) const override {
        point(run, scratch, first, positions, block.in_begin, block.out_begin);
        if constexpr (std::is_same_v<In, float>)
            in_float(run, block, scratch, positions);
        else
            in_bf16(run, block, scratch, positions);
    }

    void in_float(const Run& run, const Block& block, const Scratch& scratch, int positions) const {
        Depthwise args{};
        args.rows = scratch.rows.data();
        args.taps = run.taps;
        args.tap_count = spec_.taps();
        args.channels = block.width;
        args.weights = block.weights;
        args.bias = block.bias;
        args.addends = spec_.addend ? scratch.addends.data() : nullptr;
        args.outputs = scratch.outputs.data();
        args.activation = spec_.activation();
        args.sliding = this->sliding(run);
        spec_.kernels->depthwise(args, positions);
    }

    void in_bf16(const Run& run, const Block& block, Scratch& scratch, int positions) const {
        const Bf16Kernels& k = *spec_.halves;
        Places<Out>& places = scratch.places<Out>();
        const Out* const* addends = spec_.addend ? places.addends.data() : nullptr;
        const Bf16* const* rows = scratch.halves.rows.data();
        const std::optional<Bf16Bounds> bounds = bounds_of(spec_.operation->activation);
        const int width = block.width;
        if (bounds) {
            const Bf16Depthwise<Out> args{rows, run.taps, spec_.taps(), width, block.weights, block.bias, addends, places.outputs.data(), bounds->least, bounds->most, this->sliding(run)};
            if constexpr (std::is_same_v<Out, float>) k.depthwise_to_float(args, positions);
            else k.depthwise(args, positions);
            return;
        }
        // Sums aside, for what no kernel computes on its results.
        std::copy_n(places.outputs.begin(), positions, places.kept.begin());
        for (int i = 0; i < positions; i++) scratch.outputs[i] = scratch.scattered.data() + static_cast<std::ptrdiff_t>(i) * width;
        k.depthwise_to_float({rows, run.taps, spec_.taps(), width, block.weights, block.bias, nullptr, scratch.outputs.data(), -INFINITY, INFINITY, this->sliding(run)}, positions);
        for (int i = 0; i < positions; i++)
            finish_row(k, scratch.outputs[i], addends ? addends[i] : nullptr, width, places.kept[i], [&](float* row, int n) { activate(row, n); });
    }

    Buffer weights_, bias_;
};

}  // namespace

std::unique_ptr<Layer> make_depthwise(const ConvolutionSpec& spec, Form form, Needs& needs) {
    if (form.in == Storage::f32) return std::make_unique<DepthwiseConvolution<float, float>>(spec, needs);
    if (form.out == Storage::f32) return std::make_unique<DepthwiseConvolution<Bf16, float>>(spec, needs);
    return std::make_unique<DepthwiseConvolution<Bf16, Bf16>>(spec, needs);
}

}  // namespace convgate
