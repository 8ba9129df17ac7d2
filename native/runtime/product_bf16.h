// Convolutions as products in bfloat16, as product.cpp's in float32: what is open is computed, and the kernels write the
// results wherever they can. Where some lanes are dropped, or results go to single channels, or no kernel computes the
// activation, sums stay in memory and are finished row by row.
#pragma once

#include <algorithm>

#include "blocked_product.h"
#include "halves.h"
#include "weights.h"

namespace convgate {

template <typename Out>
class HalfProduct final : public BlockedProduct<ConvolutionOf<Bf16, Out>, BlockOf<Bf16>> {
    using Block = BlockOf<Bf16>;
    using Base = BlockedProduct<ConvolutionOf<Bf16, Out>, Block>;
    using Base::activate, Base::addend_at_, Base::chunk, Base::out_at_, Base::point, Base::position, Base::spec_, Base::taps_;
    using typename Base::Run;

public:
    HalfProduct(const ConvolutionSpec& spec, Needs& needs, Panels panels)
        : Base(spec),
          bounds_(bounds_of(spec.operation->activation)),
          weights_(*spec.halves,
                   {spec.operation->groups, spec.out_channels(), spec.taps(), spec.in_channels(), spec.joined()},
                   spec.operation->bias, {spec.out->value.positions(), true, panels, 0, 1, spec.threads},
                   [&](int out, int tap, int i) { return stored_as<Bf16>(spec.operation->weight, spec.weight_at(out, tap, i)); }) {
        Needs mine = this->needs_for_positions();
        mine.accumulators = static_cast<std::size_t>(chunk) * weights_.widest();
        if (spec_.masks_channels()) mine.scattered = mine.accumulators;
        weights_.cover_needs(mine);
        needs.cover(mine);
    }

    const BlockedWeightsOf<Bf16>& weights() const { return weights_; }

private:
    std::span<const Block> prepare(const Run& run, Sample& s, Team& team) const override {
        const std::span<const Block> blocks = weights_.choose(run.in_open, run.out_open, run.count, s);
        if (run.out_open) weights_.pack(s, team);
        return blocks;
    }

    void compute(const Run& run, const Block& block, Scratch& scratch, int first, int count) const override {
        point(run, scratch, first, count, block.in_begin, spec_.scatters() ? 0 : block.out_begin);
        Bf16Product args{};
        args.rows = scratch.halves.rows.data();
        args.accumulators = scratch.accumulators.data();
        args.bias = block.bias;
        args.width = block.width;
        args.paired = weights_.paired();
        const bool by_kernel = std::is_same_v<Out, Bf16> && bounds_ && !block.kept && !spec_.scatters();
        if (by_kernel) {
            args.addends = spec_.addend ? scratch.halves.addends.data() : nullptr;
            args.outputs = scratch.halves.outputs.data();
            args.least = bounds_->least, args.most = bounds_->most;
        }
        const BlockWeightsOf<Bf16> weights{block.weights, weights_.tap_stride(block), block.weight_rows, block.vectors};
        product_in_steps(*spec_.halves, args, run.taps, taps_, block.in_channels, weights, count, {true, by_kernel});
        if (!by_kernel) finish(run, block, scratch, first, count);
    }

    void finish(const Run& run, const Block& block, Scratch& scratch, int first, int count) const {
        const Kernels& k = *spec_.kernels;
        const int row = block.vectors * spec_.halves->lanes, n = block.width;
        float* sums = scratch.accumulators.data();
        for (int i = 0; i < count; i++) k.add(sums + static_cast<std::ptrdiff_t>(i) * row, sums + static_cast<std::ptrdiff_t>(i) * row, block.bias, row, Activation::none);
        if (block.kept) {
            k.pack_columns(sums, row, nullptr, count, block.kept, n, scratch.scattered.data(), row);
            sums = scratch.scattered.data();
        }
        const Places<Out>& places = scratch.places<Out>();
        const auto activated = [&](float* at, int width) { activate(at, width); };
        for (int i = 0; i < count; i++, sums += row) {
            if (spec_.scatters())
                scatter(run, sums, first + i, run.out_open->data() + block.out_begin, n);
            else
                finish_row(*spec_.halves, sums, spec_.addend ? places.addends[i] : nullptr, n, places.outputs[i], activated);
        }
    }

    // To single channels of a position.
    void scatter(const Run& run, float* sums, int i, const std::int32_t* columns, int n) const {
        const int p = position(run, i);
        Out gathered[max_vectors * 16];
        if (spec_.addend) {
            const Out* addend = run.addend.data + static_cast<std::ptrdiff_t>(addend_at_[p]) * run.addend.stride;
            for (int j = 0; j < n; j++) gathered[j] = addend[columns[j]];
        }
        finish_row(*spec_.halves, sums, spec_.addend ? gathered : nullptr, n, gathered, [&](float* at, int width) { activate(at, width); });
        Out* to = run.out.data + static_cast<std::ptrdiff_t>(out_at_[p]) * run.out.stride;
        for (int j = 0; j < n; j++) to[columns[j]] = gathered[j];
    }

    const std::optional<Bf16Bounds> bounds_;
    const BlockedWeightsOf<Bf16> weights_;
};

}  // namespace convgate
