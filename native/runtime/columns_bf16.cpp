// Convolutions in bfloat16 with closed output channels, positions along the vector's lanes where enough of them are open. The
// weights are those of product_bf16.h, which computes the others; sums are added in the same order.
#include <array>
#include <numeric>

#include "along_lanes.h"
#include "product_bf16.h"

namespace convgate {
namespace {

static_assert(costs::panels_at_once * max_vectors * lanes_of_choices <= costs::outputs_at_once);

// Of a panel that is open as a whole.
constexpr auto all_lanes = [] {
    std::array<std::int32_t, max_vectors * lanes_of_choices> lanes{};
    std::iota(lanes.begin(), lanes.end(), 0);
    return lanes;
}();

// Whether the same inputs make a pair for every sample.
bool pairs_stay(const ConvolutionSpec& spec) { return spec.operation->in_channels < 0 && spec.in_channels() * spec.joined() % 2 == 0; }

class HalfColumns final : public PositionsAlongLanes<Bf16> {
    using Block = BlockOf<Bf16>;

public:
    // No position by itself: what is added in which order would depend on how many others are open.
    HalfColumns(const ConvolutionSpec& spec, Needs& needs)
        : PositionsAlongLanes(spec, spec.halves->lanes, needs, pairs_stay(spec) ? spec.in_channels() * spec.joined() : costs::paired_inputs),
          product_(spec, needs, pairs_stay(spec) ? Panels::paired : Panels::whole) {
        Needs mine;
        if (!product_.weights().paired()) mine.weights_aside = static_cast<std::size_t>(costs::panels_at_once) * words_of_panel(max_vectors * lanes_);
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const std::size_t open = s.gates[spec_.operation->out_channels].channels[spec_.out_use].open.size();
        if (costs::product_of_halves_is_cheaper(open_positions(s), spec_.out_channels(), static_cast<int>(open), lanes_))
            product_.run(s, team);
        else
            PositionsAlongLanes::run(s, team);
    }

private:
    // Of a step, where they are paired for it.
    static std::ptrdiff_t words_of_panel(int panel) { return static_cast<std::ptrdiff_t>(costs::paired_inputs) / in_word * panel; }

    // Panels of outputs, in which some are open, are pieces.
    Open list(const Run& run, Sample& s) const override {
        const std::span<const Block> blocks = product_.weights().choose(run.in_open, run.out_open, run.count, s);
        return {blocks.empty() ? 0 : blocks[0].in_channels, static_cast<int>(blocks.size()), costs::panels_at_once};
    }
    Outputs outputs_of(const Sample& s, Pieces pieces) const override {
        const Block &first = s.half_blocks[pieces.begin], &last = s.half_blocks[pieces.end - 1];
        return {first.out_begin, last.out_begin + last.width - first.out_begin};
    }

    static std::span<const Block> blocks_of(const Item& item) {
        return {item.sample.half_blocks.data() + item.pieces.begin, item.sample.half_blocks.data() + item.pieces.end};
    }
    // The open ones.
    static const std::int32_t* lanes_of(const Block& block) { return block.kept ? block.kept : all_lanes.data(); }

    void add(const Item& item, const Groups& groups, const Step& step) const override {
        const bool paired = product_.weights().paired();
        float* const aside = item.scratch.weights_aside.data();
        const std::span<const Block> blocks = blocks_of(item);
        const std::ptrdiff_t panel = blocks[0].vectors * lanes_;
        const auto weights = [&](const Block& block, int tap, int begin) {
            return block.weights + (static_cast<std::ptrdiff_t>(tap) * run_ + (block.weight_rows ? 0 : begin)) * panel;
        };
        const auto listed = [](const Block& block, int begin) { return block.weight_rows ? block.weight_rows + begin : nullptr; };
        for (std::size_t b = 0; b < blocks.size() && !paired; b++)
            spec_.halves->pair_rows[blocks[b].vectors - 1](weights(blocks[b], step.tap, step.begin), listed(blocks[b], step.begin), step.count,
                                                           aside + b * words_of_panel(panel));
        Columns args{};
        args.rows = ceil_div(step.count, in_word);
        args.weight_stride = panel;
        args.first = step.is_first;
        args.ahead.stride = panel / in_word;
        args.ahead.count = step.is_last ? 0 : step.next_count;
        args.ahead_lines = ceil_div(static_cast<int>(panel) / in_word, line);
        for (const Group& group : groups) {
            args.inputs = transposed(item, group, item.run.taps[step.tap] + step.begin, step.count);
            args.accumulators = sums_of(item, group);
            for (std::size_t b = 0; b < blocks.size(); b++) {
                const Block& block = blocks[b];
                // Fetched meanwhile: what the next step reads.
                args.ahead.weights = reinterpret_cast<const float*>(weights(block, step.next_tap, step.next_begin));
                args.ahead.rows = listed(block, step.next_begin);
                args.weights = paired ? reinterpret_cast<const float*>(weights(block, step.tap, step.begin)) : aside + b * words_of_panel(panel);
                args.columns = lanes_of(block);
                args.outputs = block.width;
                spec_.halves->columns[group.width / lanes_ - 1](args);
                args.accumulators += static_cast<std::ptrdiff_t>(block.width) * group.width;
            }
            args.ahead.count = 0;
        }
    }

    void complete(const Item& item, const Groups& groups) const override {
        const Kernels& k = *spec_.kernels;
        float *const biases = following(item), *bias = biases;
        for (const Block& block : blocks_of(item))
            for (int j = 0; j < block.width; j++) *bias++ = block.bias[lanes_of(block)[j]];
        for (const Group& group : groups) {
            float* row = by_position(item, group);
            for (int p = group.begin; p < group.begin + group.count; p++, row += item.outputs) {
                k.add(row, row, biases, item.outputs, Activation::none);
                activate(row, item.outputs);
                spec_.halves->narrow(item.scratch.halves.outputs[p], row, item.outputs);
            }
        }
    }

    HalfProduct<Bf16> product_;
};

}  // namespace

bool suits_bf16_columns(const ConvolutionSpec& spec) {
    return spec.halves->columns[0] && spec.out->value.storage == Storage::bf16 && suits_along_lanes(spec, costs::halves_along_lanes);
}

std::unique_ptr<Layer> make_bf16_columns(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<HalfColumns>(spec, needs);
}

}  // namespace convgate
