// Convolutions of integers as products, as product.cpp's of floats: what is open is computed, and the kernels write the
// results wherever they can. Where some lanes are dropped, or results go to single channels, they are written aside first.
#include <algorithm>

#include "aside.h"
#include "blocked_product.h"
#include "integer_weights.h"

namespace convgate {
namespace {

template <typename Out>
class IntegerProduct final : public BlockedProduct<ConvolutionOf<std::uint8_t, Out>, IntegerBlock> {
    using Base = BlockedProduct<ConvolutionOf<std::uint8_t, Out>, IntegerBlock>;
    using Base::addend_at_, Base::chunk, Base::out_at_, Base::point, Base::position, Base::spec_;
    using typename Base::Run;

public:
    IntegerProduct(const ConvolutionSpec& spec, Needs& needs)
        : Base(spec),
          weights_(spec, {spec.out->value.positions(), 1, spec.integers->excess(spec.in->value.is_signed())}, needs) {
        Needs mine = this->needs_for_positions();
        // Results aside, and what is added to them.
        if (spec_.masks_channels()) mine.scattered = static_cast<std::size_t>(2 * chunk) * row();
        needs.cover(mine);
    }

private:
    int row() const { return spec_.integers->row; }

    std::span<const IntegerBlock> prepare(const Run& run, Sample& s, Team& team) const override {
        const std::span<const IntegerBlock> blocks = weights_.choose(run.in_open, run.out_open, run.count, s);
        if (run.in_open || run.out_open) weights_.prepare(s, team, run.taps);
        return blocks;
    }

    void compute(const Run& run, const IntegerBlock& block, Scratch& scratch, int first, int count) const override {
        point(run, scratch, first, count, block.in_begin, spec_.scatters() ? 0 : block.out_begin);
        Int8Product args{};
        weights_.describe(block, run.taps, args);
        args.rows = scratch.bytes.rows.data();
        args.positions = count;
        Places<Out>& places = scratch.places<Out>();
        const bool aside = block.kept || spec_.scatters();
        if (aside) point_aside(run, block, scratch, first, count);
        if constexpr (std::is_same_v<Out, std::uint8_t>) {
            args.addends = spec_.addend ? places.addends.data() : nullptr;
            args.outputs = aside ? places.kept.data() : places.outputs.data();
        } else if constexpr (std::is_same_v<Out, std::int32_t>) {
            args.sums = aside ? places.kept.data() : places.outputs.data();
        } else {
            args.floats = aside ? places.kept.data() : places.outputs.data();
        }
        spec_.integers->product(args);
        if (aside) distribute(run, block, places, first, count);
    }

    // A block's channels where outputs lie dense, or null.
    const std::int32_t* channels(const Run& run, const IntegerBlock& block) const { return spec_.scatters() ? run.out_open->data() + block.out_begin : nullptr; }

    void point_aside(const Run& run, const IntegerBlock& block, Scratch& scratch, int first, int count) const {
        Places<Out>& places = scratch.places<Out>();
        Out* at = reinterpret_cast<Out*>(scratch.scattered.data());
        for (int i = 0; i < count; i++, at += row()) places.kept[i] = at;
        if (!spec_.addend) return;
        for (int i = 0; i < count; i++, at += row()) {
            const Out* addend = spec_.scatters() ? run.addend.data + static_cast<std::ptrdiff_t>(addend_at_[position(run, first + i)]) * run.addend.stride
                                                 : places.addends[i];
            to_lanes(block, addend, channels(run, block), at, row());
            places.addends[i] = at;
        }
    }

    void distribute(const Run& run, const IntegerBlock& block, const Places<Out>& places, int first, int count) const {
        for (int i = 0; i < count; i++) {
            Out* to = spec_.scatters() ? run.out.data + static_cast<std::ptrdiff_t>(out_at_[position(run, first + i)]) * run.out.stride : places.outputs[i];
            from_lanes(block, places.kept[i], channels(run, block), to);
        }
    }

    const IntegerWeights weights_;
};

}  // namespace

std::unique_ptr<Layer> make_integer_product(const ConvolutionSpec& spec, Storage results, Needs& needs) {
    if (results == Storage::f32) return std::make_unique<IntegerProduct<float>>(spec, needs);
    if (summed(results)) return std::make_unique<IntegerProduct<std::int32_t>>(spec, needs);
    return std::make_unique<IntegerProduct<std::uint8_t>>(spec, needs);
}

}  // namespace convgate
