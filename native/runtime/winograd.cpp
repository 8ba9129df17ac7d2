// 3x3 convolutions by Winograd's F(2x2, 3x3), square of 2x2 outputs by square: 16 products where the definition has 36.
// Squares with no open position are left out, and so are closed channels. What is counted are the definition's MACs.
#include <algorithm>

#include "blocked_squares.h"
#include "steps.h"
#include "weights.h"

namespace convgate {
namespace {

constexpr int taps = 9;
using costs::transformed_inputs;

// Floats of inputs and products that are in the cache at once.
int most_transformed() { return static_cast<int>(costs::kept_in_second_cache() / sizeof(float)); }

std::size_t elements_weights(const ConvolutionSpec& spec) { return spec.operation->weight.size() / taps * elements; }
bool keeps_elements(const ConvolutionSpec& spec) { return costs::keeps_elements(elements_weights(spec), all_squares(spec)); }

class WinogradConvolution final : public BlockedSquares<ConvolutionInSquares, Block> {
public:
    WinogradConvolution(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Needs& needs)
        : BlockedSquares(spec, std::move(other), shares_blocks(spec)),
          transforms_(!keeps_elements(spec)),
          fetches_(!costs::stays_in_second_cache(elements_weights(spec) * sizeof(float))),
          weights_(transforms_ ? order(spec, {spec.operation->groups, spec.out_channels(), 1, spec.in_channels(), area}, definition(spec))
                               : order(spec, {spec.operation->groups, spec.out_channels(), elements, spec.in_channels(), 1}, transformed_weights(spec))) {
        const std::size_t widest = weights_.widest(), ins = padded(spec.in->value.channels);
        Needs mine = needs_for_positions();
        mine.positions = corners * chunk;
        // Fewer open channels leave room for more squares.
        mine.columns = std::max<std::size_t>(elements * ins * room(most_squares(spec.in->value.channels)), most_transformed());
        mine.accumulators = elements * widest * room(chunk);
        mine.scattered = widest;  // what is computed of closed positions
        if (transforms_) mine.weights_aside = (elements + area) * (transformed_inputs * widest + spec.kernels->lanes);
        mine.squares = squares() + 1;
        weights_.cover_needs(mine);
        needs.cover(mine);
    }

private:
    using Source = BlockedWeights::Source;

    static BlockedWeights order(const ConvolutionSpec& spec, const WeightShape& shape, const Source& source) {
        const int preparing = shape.joined == area ? costs::transforming : 0;
        const WeightUse use{spec.out->value.positions() / 4, shares_blocks(spec), packed_if(spec.masks_channels()), preparing, corners, spec.threads};
        return {*spec.kernels, shape, spec.operation->bias, use, source};
    }

    // Among threads, rather than squares: weights are then read, or transformed, by one thread only.
    static bool shares_blocks(const ConvolutionSpec& spec) {
        return elements_weights(spec) > costs::kept_elements || spec.out->value.positions() / corners < costs::few_squares;
    }

    // The weights as they are, all taps of all inputs as one run.
    static Source definition(const ConvolutionSpec& spec) {
        return [&spec](int out, int, int i) { return spec.operation->weight.data[spec.weight_at(out, 0, i)]; };
    }

    bool pays(int squares, int positions) const override { return costs::winograd_pays(!transforms_, squares, positions); }

    std::span<const Block> prepare(const Run& run, int squares, Sample& s, Team& team) const override {
        const std::span<const Block> blocks = weights_.choose(run.in_open, run.out_open, squares, s);
        if (run.out_open && !transforms_) weights_.pack(s, team);
        return blocks;
    }

    int most_squares(int ins) const override {
        return std::clamp(most_transformed() / elements / (padded(ins) + weights_.widest()) - 1, costs::least_squares, chunk);
    }

    void multiply(Scratch& scratch, int count, int all, int ins, const Block* block, const Block* end) const override {
        transforms_ ? multiply_transforming(scratch, count, all, ins, block, end) : multiply_kept(scratch, count, all, ins, *block);
    }

    // Products of all elements, in steps whose weights stay in the first-level cache while all squares use them. `all` inputs
    // lie there, of which the block reads `ins`.
    void multiply_kept(Scratch& scratch, int count, int all, int ins, const Block& block) const {
        const Kernels& k = *spec_.kernels;
        const int row = block.vectors * k.lanes, most = std::max(cut_of(k).elements / row / k.lanes, 1) * k.lanes;
        const int step = padded(ceil_div(ins, ceil_div(std::max(ins, 1), most)));
        const std::ptrdiff_t stride = weights_.tap_stride(block);
        Element args{};
        args.squares = count;
        args.room = room(count);
        args.weight_rows = block.weight_rows;
        args.ahead.stride = row;
        for (int e = 0; e < elements; e++)
            for (int begin = 0; begin == 0 || begin < ins; begin += step) {
                args.inputs = scratch.columns.data() + (static_cast<std::ptrdiff_t>(e) * padded(all) + block.in_begin) * args.room;
                args.begin = begin;
                args.end = std::min(begin + step, ins);
                args.weights = block.weights + e * stride;
                const bool last = args.end == ins;
                const int next = last ? 0 : args.end;
                args.ahead.rows = block.weight_rows ? block.weight_rows + next : nullptr;
                args.ahead.count = fetches_ ? std::min(step, ins - next) : 0;
                args.ahead.weights = args.weights + (last ? stride : 0) + (block.weight_rows ? 0 : next * row);
                args.first = begin == 0;
                args.out = scratch.accumulators.data() + static_cast<std::ptrdiff_t>(e) * args.room * row;
                k.element[block.vectors - 1](args);
            }
    }

    // The same where the elements' weights would be too many to read: some inputs' weights, and their products, during which
    // the next ones are fetched.
    void multiply_transforming(Scratch& scratch, int count, int all, int ins, const Block* block, const Block* end) const {
        const Kernels& k = *spec_.kernels;
        const int row = block->vectors * k.lanes;
        const std::ptrdiff_t stride = transformed_inputs * row + k.lanes;  // between elements: not a power of two
        float* const packed = scratch.weights_aside.data() + elements * stride;
        ElementWeights weights{};
        weights.row = row;
        weights.to = scratch.weights_aside.data();
        weights.to_stride = stride;
        Element args{};
        args.squares = count;
        args.room = room(count);
        for (int begin = 0; begin == 0 || begin < ins; begin += transformed_inputs) {
            const int next = begin + transformed_inputs;
            weights.count = std::min(transformed_inputs, ins - begin);
            if (block->columns) {
                weights_.pack_rows(*block, begin, weights.count, ins, area, packed, stride);
                weights.from = packed;
                weights.tap_stride = stride;
            } else {
                weights.from = weights_.row(*block, 0, begin);
                weights.tap_stride = weights_.row(*block, spec_.in_channels(), begin) - weights.from;
                weights.rows = block->weight_rows ? block->weight_rows + begin : nullptr;
            }
            k.element_weights(weights);
            for (int e = 0; e < elements; e++) {
                args.inputs = scratch.columns.data() + (static_cast<std::ptrdiff_t>(e) * padded(all) + block->in_begin + begin) * args.room;
                args.end = weights.count;
                args.weights = weights.to + e * stride;
                args.ahead = next < ins         ? weights_.ahead(*block, e, area, next, std::min(transformed_inputs, ins - next), ins)
                             : block + 1 != end ? weights_.ahead(block[1], e, area, 0, std::min(transformed_inputs, ins), ins)
                                                : Ahead{};
                args.first = begin == 0;
                args.out = scratch.accumulators.data() + static_cast<std::ptrdiff_t>(e) * args.room * row;
                k.element[block->vectors - 1](args);
            }
        }
    }

    void transform_products(const Run& run, const Chosen& chosen, Scratch& scratch, int first, int count, const Block& block) const override {
        // What is computed of closed positions, or of none, goes to waste.
        point_corners(run, chosen, scratch, first, count, block.out_begin, scratch.scattered.data());
        Squares squares{};
        squares.from = scratch.accumulators.data();
        squares.squares = count;
        squares.room = room(count);
        squares.row = block.vectors * spec_.kernels->lanes;
        squares.bias = block.bias;
        squares.addends = spec_.addend ? scratch.addends.data() : nullptr;
        squares.to = scratch.outputs.data();
        squares.width = block.width;
        squares.kept = block.kept;
        squares.activation = spec_.activation();
        spec_.kernels->squares(squares);
    }

    const bool transforms_;  // the weights, when they are needed
    const bool fetches_;  // what is read next
    const BlockedWeights weights_;
};

}  // namespace

bool suits_winograd(const ConvolutionSpec& spec) {
    const Operation& op = *spec.operation;
    if (!is_in_squares(spec)) return false;
    // Transformed inputs lie in blocks of lanes, at which a group must begin.
    if (op.groups > 1 && (spec.in_channels() % lanes_of_choices || op.in_channels >= 0 || op.out_channels >= 0)) return false;
    return costs::winograd_pays(keeps_elements(spec), all_squares(spec), spec.out->value.positions());
}

std::unique_ptr<Layer> make_winograd(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Needs& needs) {
    return std::make_unique<WinogradConvolution>(spec, std::move(other), needs);
}

}  // namespace convgate
