// 3x3 convolutions by Winograd's F(2x2, 3x3), square of 2x2 outputs by square: 16 products where the definition has 36.
// Squares with no open position are left out, and so are closed channels. What is counted are the definition's MACs.
// Whatever maps and weights are stored as, what is transformed is float32, and so are products.
#include <algorithm>

#include "blocked_squares.h"
#include "halves.h"
#include "steps.h"
#include "weights.h"

namespace convgate {
namespace {

constexpr int area = 9, corners = 4;  // taps; of a square
using costs::transformed_inputs;

// Floats of inputs and products that are in the cache at once.
int most_transformed() { return static_cast<int>(costs::kept_in_second_cache() / sizeof(float)); }

// Among threads, rather than squares: weights are then read, or transformed, by one thread only.
bool shares_blocks(const ConvolutionSpec& spec) {
    return elements_weights(spec) > costs::kept_elements || spec.out->value.positions() / corners < costs::few_squares;
}

// Transformed inputs lie in blocks of lanes, at which a group must begin.
bool groups_fill_vectors(const ConvolutionSpec& spec) {
    const Operation& op = *spec.operation;
    return op.groups == 1 || (spec.in_channels() % lanes_of_choices == 0 && op.in_channels < 0 && op.out_channels < 0);
}

template <typename T>
BlockedWeightsOf<T> ordered(const ConvolutionSpec& spec, int taps, int joined, int preparing, const typename BlockedWeightsOf<T>::Source& source) {
    const WeightShape shape{spec.operation->groups, spec.out_channels(), taps, spec.in_channels(), joined};
    const WeightUse use{spec.out->value.positions() / corners, shares_blocks(spec), packed_if(spec.masks_channels()), preparing, corners, spec.threads};
    return {spec.kernels_for<T>(), shape, spec.operation->bias, use, source};
}

template <typename T>
class Winograd : public BlockedSquares<T, BlockOf<T>> {
protected:
    using Base = BlockedSquares<T, BlockOf<T>>;
    using Base::chunk, Base::padded, Base::room, Base::spec_;
    using typename Base::Chosen;
    using typename Base::Run;
    using Block = BlockOf<T>;
    using Weights = BlockedWeightsOf<T>;

    Winograd(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, typename Base::Sharing sharing, Weights weights, Needs& needs)
        : Base(spec, std::move(other), sharing), weights_(std::move(weights)) {
        const std::size_t widest = weights_.widest(), ins = padded(spec.in->value.channels);
        Needs mine = this->needs_for_positions();
        mine.positions = corners * chunk;
        // Fewer open channels leave room for more squares.
        mine.columns = std::max<std::size_t>(elements * ins * room(most_squares(spec.in->value.channels)), most_transformed());
        mine.accumulators = elements * widest * room(chunk);
        mine.scattered = widest;  // what is computed of closed positions
        mine.squares = this->squares() + 1;
        weights_.cover_needs(mine);
        needs.cover(mine);
    }

    int most_squares(int ins) const override {
        return std::clamp(most_transformed() / elements / (padded(ins) + weights_.widest()) - 1, costs::least_squares, chunk);
    }

    // Of an element, in a thread's buffers.
    const float* inputs_of(const Scratch& scratch, int element, int all, int count, int begin) const {
        return scratch.columns.data() + (static_cast<std::ptrdiff_t>(element) * padded(all) + begin) * room(count);
    }
    float* products_of(const Scratch& scratch, int element, int row, int count) const {
        return scratch.accumulators.data() + static_cast<std::ptrdiff_t>(element) * room(count) * row;
    }

    void transform_products(const Run& run, const Chosen& chosen, Scratch& scratch, int first, int count, const Block& block) const override {
        Places<T>& places = scratch.places<T>();
        // What is computed of closed positions, or of none, goes to waste.
        this->point_corners(run, chosen, scratch, first, count, block.out_begin, reinterpret_cast<T*>(scratch.scattered.data()));
        const T* const* addends = spec_.addend ? places.addends.data() : nullptr;
        const int row = block.vectors * spec_.kernels->lanes;
        spec_.template kernels_for<T>().squares({scratch.accumulators.data(), count, room(count), row, block.bias, addends, places.outputs.data(),
                                                 block.width, block.kept, activation()});
    }

    const Weights weights_;

private:
    auto activation() const {
        if constexpr (std::is_same_v<T, float>) return spec_.activation();
        else return *bounds_of(spec_.operation->activation);
    }
};

// With the elements' weights as they are needed.
class KeptElements final : public Winograd<float> {
public:
    KeptElements(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Needs& needs)
        : Winograd(spec, std::move(other), {shares_blocks(spec), 1}, ordered<float>(spec, elements, 1, 0, transformed_weights(spec)), needs),
          fetches_(!costs::stays_in_second_cache(elements_weights(spec) * sizeof(float))) {}

private:
    bool pays(int squares, int positions) const override { return winograd_pays(spec_, squares, positions); }

    std::span<const Block> prepare(const Run& run, int squares, Sample& s, Team& team) const override {
        const std::span<const Block> blocks = weights_.choose(run.in_open, run.out_open, squares, s);
        if (run.out_open) weights_.pack(s, team);
        return blocks;
    }

    // In steps whose weights stay in the first-level cache while all squares use them.
    void multiply(Scratch& scratch, int count, int all, int ins, const Block* block, const Block*) const override {
        const Kernels& k = *spec_.kernels;
        const int row = block->vectors * k.lanes, most = std::max(cut_of(k).elements / row / k.lanes, 1) * k.lanes;
        const int step = padded(ceil_div(ins, ceil_div(std::max(ins, 1), most)));
        const std::ptrdiff_t stride = weights_.tap_stride(*block);
        Element args{};
        args.squares = count;
        args.room = room(count);
        args.weight_rows = block->weight_rows;
        args.ahead.stride = row;
        for (int e = 0; e < elements; e++)
            for (int begin = 0; begin == 0 || begin < ins; begin += step) {
                args.inputs = inputs_of(scratch, e, all, count, block->in_begin);
                args.begin = begin;
                args.end = std::min(begin + step, ins);
                args.weights = block->weights + e * stride;
                const bool last = args.end == ins;
                const int next = last ? 0 : args.end;
                args.ahead.rows = block->weight_rows ? block->weight_rows + next : nullptr;
                args.ahead.count = fetches_ ? std::min(step, ins - next) : 0;
                args.ahead.weights = args.weights + (last ? stride : 0) + (block->weight_rows ? 0 : next * row);
                args.first = begin == 0;
                args.out = products_of(scratch, e, row, count);
                k.element[block->vectors - 1](args);
            }
    }

    const bool fetches_;  // what is read next
};

// With weights that are transformed in each call: some inputs' weights, then their products, during which the next ones are
// fetched if they are floats. They are kept as they are, all taps of all inputs as one run.
template <typename T>
class ElementsInCall final : public Winograd<T> {
    using Base = Winograd<T>;
    using Base::inputs_of, Base::products_of, Base::room, Base::spec_, Base::weights_;
    using typename Base::Block;
    using typename Base::Run;

public:
    ElementsInCall(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Needs& needs)
        : Base(spec, std::move(other),
               {shares_blocks(spec) || costs::shares_transformed(all_squares(spec), transforming, spec.threads), costs::least_part(transforming)},
               ordered<T>(spec, 1, area, transforming, [&](int out, int, int i) { return stored_as<T>(spec.operation->weight, spec.weight_at(out, 0, i)); }),
               needs) {
        Needs mine;
        mine.weights_aside = (elements + area) * (transformed_inputs * weights_.widest() + spec.kernels->lanes);
        needs.cover(mine);
    }

private:
    static constexpr int transforming = std::is_same_v<T, float> ? costs::transforming : costs::transforming_halves;

    bool pays(int squares, int positions) const override {
        return std::is_same_v<T, float> ? winograd_pays(spec_, squares, positions) : costs::bf16_winograd_pays(squares, positions);
    }

    std::span<const Block> prepare(const Run& run, int squares, Sample& s, Team&) const override {
        return weights_.choose(run.in_open, run.out_open, squares, s);
    }

    void multiply(Scratch& scratch, int count, int all, int ins, const Block* block, const Block* end) const override {
        const Kernels& k = *spec_.kernels;
        const int row = block->vectors * k.lanes;
        const std::ptrdiff_t stride = transformed_inputs * row + k.lanes;  // between elements: not a power of two
        T* const packed = reinterpret_cast<T*>(scratch.weights_aside.data() + elements * stride);
        ElementWeightsOf<T> weights{};
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
            spec_.template kernels_for<T>().element_weights(weights);
            for (int e = 0; e < elements; e++) {
                args.inputs = inputs_of(scratch, e, all, count, block->in_begin + begin);
                args.end = weights.count;
                args.weights = weights.to + e * stride;
                if constexpr (std::is_same_v<T, float>)
                    args.ahead = next < ins         ? weights_.ahead(*block, e, area, next, std::min(transformed_inputs, ins - next), ins)
                                 : block + 1 != end ? weights_.ahead(block[1], e, area, 0, std::min(transformed_inputs, ins), ins)
                                                    : Ahead{};
                args.first = begin == 0;
                args.out = products_of(scratch, e, row, count);
                k.element[block->vectors - 1](args);
            }
        }
    }
};

}  // namespace

bool suits_winograd(const ConvolutionSpec& spec) {
    return is_in_squares(spec) && groups_fill_vectors(spec) && winograd_pays(spec, all_squares(spec), spec.out->value.positions());
}

std::unique_ptr<Layer> make_winograd(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Needs& needs) {
    if (keeps_elements(spec)) return std::make_unique<KeptElements>(spec, std::move(other), needs);
    return std::make_unique<ElementsInCall<float>>(spec, std::move(other), needs);
}

bool suits_bf16_winograd(const ConvolutionSpec& spec) {
    if (!spec.halves->patches || spec.out->value.storage != Storage::bf16 || !bounds_of(spec.operation->activation)) return false;
    return is_in_squares(spec) && groups_fill_vectors(spec) && costs::bf16_winograd_pays(all_squares(spec), spec.out->value.positions());
}

std::unique_ptr<Layer> make_bf16_winograd(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Needs& needs) {
    return std::make_unique<ElementsInCall<Bf16>>(spec, std::move(other), needs);
}

}  // namespace convgate
