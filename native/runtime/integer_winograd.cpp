// 3x3 convolutions of 8-bit integers by Winograd's F(2x2, 3x3), as winograd.cpp's of floats. Transformed inputs and weights are
// integers of 16 bits, so that sums are exact: whichever way a layer is computed, results are the same. Weights are kept as
// bytes, as a product has them, and transformed in each call, some inputs' at a time.
#include <algorithm>

#include "aside.h"
#include "blocked_squares.h"
#include "integer_weights.h"

namespace convgate {
namespace {

using costs::transformed_inputs;

class IntegerWinograd final : public BlockedSquares<std::uint8_t, IntegerBlock> {
public:
    IntegerWinograd(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Needs& needs)
        : BlockedSquares(spec, std::move(other), {shares_blocks(spec), costs::least_part(costs::transforming_bytes)}),
          row_(spec.integers->row),
          weights_(spec, {all_squares(spec), corners, 0}, needs) {
        const int ins = spec.in->value.channels;
        Needs mine = needs_for_positions();
        mine.positions = corners * chunk;
        // Fewer open channels leave room for more squares.
        const std::size_t widest = static_cast<std::size_t>(elements) * padded(ins) * room(most_squares(ins)) * sizeof(std::int16_t);
        mine.columns = std::max(widest, costs::kept_in_second_cache()) / sizeof(float);
        mine.accumulators = static_cast<std::size_t>(elements) * row_ * room(chunk);
        // What is computed of closed positions; results aside.
        mine.scattered = static_cast<std::size_t>(row_) * (1 + (spec.masks_channels() ? corners * chunk : 0)) / sizeof(float);
        mine.weights_aside = elements * stride() * sizeof(std::int16_t) / sizeof(float);
        mine.squares = squares() + 1;
        needs.cover(mine);
    }

private:
    // Weights are then transformed by one thread only.
    static bool shares_blocks(const ConvolutionSpec& spec) {
        const int squares = all_squares(spec);
        return !costs::stays_in_second_cache(spec.operation->weight.size()) || squares < costs::few_squares ||
               costs::shares_transformed(squares, costs::transforming_bytes, spec.threads);
    }
    // Of the transformed weights, between elements: not a power of two.
    std::ptrdiff_t stride() const { return (transformed_inputs + 1) * row_; }

    bool pays(int squares, int positions) const override { return costs::integer_winograd_pays(squares, positions); }

    std::span<const IntegerBlock> prepare(const Run& run, int squares, Sample& s, Team& team) const override {
        const std::span<const IntegerBlock> blocks = weights_.choose(run.in_open, run.out_open, squares, s);
        if (run.in_open || run.out_open) weights_.prepare(s, team, run.taps);
        return blocks;
    }

    int most_squares(int ins) const override {
        const std::size_t each = elements * (padded(ins) * sizeof(std::int16_t) + row_ * sizeof(std::int32_t));
        return std::clamp(static_cast<int>(costs::kept_in_second_cache() / each) - 1, costs::least_squares, chunk);
    }

    void multiply(Scratch& scratch, int count, int all, int ins, const IntegerBlock* block, const IntegerBlock*) const override {
        Int8ElementWeights weights{};
        weights.from = block->weights;
        weights.line_stride = block->tap_stride;
        weights.rows = block->weight_rows;
        weights.inputs = ins;
        weights.width = IntegerWeights::width(*block);
        weights.to = reinterpret_cast<std::int16_t*>(scratch.weights_aside.data());
        weights.to_stride = stride();
        Int8Element args{};
        args.squares = count;
        args.room = room(count);
        args.width = weights.width;
        for (int begin = 0; begin == 0 || begin < ins; begin += transformed_inputs) {
            weights.begin = begin;
            weights.count = args.count = std::min(transformed_inputs, ins - begin);
            spec_.integers->element_weights(weights);
            args.first = begin == 0;
            for (int e = 0; e < elements; e++) {
                args.inputs = reinterpret_cast<const std::int16_t*>(scratch.columns.data()) + (static_cast<std::ptrdiff_t>(e) * padded(all) + begin) * args.room;
                args.weights = weights.to + e * stride();
                args.out = reinterpret_cast<std::int32_t*>(scratch.accumulators.data()) + static_cast<std::ptrdiff_t>(e) * args.room * row_;
                spec_.integers->element(args);
            }
        }
    }

    void transform_products(const Run& run, const Chosen& chosen, Scratch& scratch, int first, int count, const IntegerBlock& block) const override {
        // What is computed of closed positions, or of none, goes to waste.
        std::uint8_t* const waste = reinterpret_cast<std::uint8_t*>(scratch.scattered.data());
        point_corners(run, chosen, scratch, first, count, block.out_begin, waste);
        const int positions = corners * count;
        if (block.kept)
            for (int i = 0; i < positions; i++) scratch.bytes.kept[i] = waste + (i + 1) * row_;
        Int8Squares squares{};
        squares.from = reinterpret_cast<const std::int32_t*>(scratch.accumulators.data());
        squares.squares = count;
        squares.room = room(count);
        squares.start = block.start;
        squares.width = IntegerWeights::width(block);
        squares.finish = spec_.finish(block.multiplier, block.shift);
        // Where some lanes are dropped outputs are compact, and nothing is added to compact outputs.
        squares.addends = spec_.addend && !block.kept ? scratch.bytes.addends.data() : nullptr;
        squares.outputs = block.kept ? scratch.bytes.kept.data() : scratch.bytes.outputs.data();
        spec_.integers->squares(squares);
        if (!block.kept) return;
        for (int i = 0; i < positions; i++) from_lanes(block, scratch.bytes.kept[i], nullptr, scratch.bytes.outputs[i]);
    }

    const int row_;  // outputs of a panel
    const IntegerWeights weights_;
};

}  // namespace

bool suits_integer_winograd(const ConvolutionSpec& spec) {
    if (!spec.integers->element || !is_in_squares(spec) || spec.operation->groups > 1) return false;
    const Storage results = spec.out->value.storage;
    if (!integral(results) || summed(results)) return false;
    // Four times the largest sum of products must fit into 32 bits.
    const bool fits = 4LL * 9 * spec.in_channels() * 255 * 128 < 1LL << 31;
    return fits && costs::integer_winograd_pays(all_squares(spec), spec.out->value.positions());
}

std::unique_ptr<Layer> make_integer_winograd(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Needs& needs) {
    return std::make_unique<IntegerWinograd>(spec, std::move(other), needs);
}

}  // namespace convgate
