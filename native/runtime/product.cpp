// Convolutions as products of input positions and weights, output channels along the vector's lanes. Closed input channels
// are skipped by a list of the weights' rows; where output channels are closed, the weights that remain are packed first.
#include <algorithm>

#include "blocked_product.h"
#include "weights.h"

namespace convgate {
namespace {

class ProductConvolution final : public BlockedProduct<Convolution, Block> {
public:
    ProductConvolution(const ConvolutionSpec& spec, Needs& needs)
        : BlockedProduct(spec),
          weights_(*spec.kernels,
                   {spec.operation->groups, spec.out_channels(), spec.taps(), spec.in_channels(), spec.joined()},
                   spec.operation->bias, {spec.out->value.positions(), true, packed_if(spec.masks_channels()), 0, 1, spec.threads},
                   [&](int out, int tap, int i) { return spec.operation->weight.data[spec.weight_at(out, tap, i)]; }) {
        Needs mine = needs_for_positions();
        mine.accumulators = static_cast<std::size_t>(chunk) * weights_.widest();
        if (spec_.masks_channels()) mine.scattered = 2 * mine.accumulators;
        weights_.cover_needs(mine);
        needs.cover(mine);
    }

private:
    std::span<const Block> prepare(const Run& run, Sample& s, Team& team) const override {
        const std::span<const Block> blocks = weights_.choose(run.in_open, run.out_open, run.count, s);
        if (run.out_open) weights_.pack(s, team);
        return blocks;
    }

    void compute(const Run& run, const Block& block, Scratch& scratch, int first, int count) const override {
        const bool aside = spec_.scatters() || block.kept;
        const int row = block.vectors * spec_.kernels->lanes;
        point(run, scratch, first, count, block.in_begin, spec_.scatters() ? 0 : block.out_begin);
        if (aside) point_aside(scratch, count, row);
        Product args{};
        args.rows = scratch.rows.data();
        args.accumulators = scratch.accumulators.data();
        args.bias = block.bias;
        args.addends = spec_.addend && !aside ? scratch.addends.data() : nullptr;
        args.outputs = aside ? scratch.kept.data() : scratch.outputs.data();
        args.width = block.kept ? row : block.width;
        args.activation = aside ? Activation::none : spec_.activation();
        product_in_steps(*spec_.kernels, args, run.taps, taps_, block.in_channels,
                         BlockWeights{block.weights, weights_.tap_stride(block), block.weight_rows, block.vectors}, count);
        if (!aside) return;
        const Rows rows = block.kept ? keep(scratch, block, count, row) : Rows{scratch.scattered.data(), row, block.out_begin, block.width};
        finish(run, scratch, rows, first, count);
    }

    const BlockedWeights weights_;
};

}  // namespace

std::unique_ptr<Layer> make_product(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<ProductConvolution>(spec, needs);
}

}  // namespace convgate
