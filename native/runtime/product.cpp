// Convolutions as products of input positions and weights, output channels along the vector's lanes. Closed input channels
// are skipped by a list of the weights' rows; where output channels are closed, the weights that remain are packed first.
#include <algorithm>

#include "convolution.h"
#include "steps.h"
#include "weights.h"

namespace convgate {
namespace {

constexpr long long least_macs = 1 << 15;  // worth an item of its own
constexpr long long worthwhile_macs = 1 << 22;
constexpr std::size_t most_weights = 1 << 17;  // floats: half of a second-level cache

class ProductConvolution final : public Convolution {
public:
    ProductConvolution(const ConvolutionSpec& spec, Needs& needs)
        : Convolution(spec),
          taps_(spec.taps()),
          weights_(*spec.kernels,
                   {spec.operation->groups, spec.out_channels(), spec.taps(), spec.in_channels(), spec.joined()},
                   spec.operation->bias, {spec.out->value.positions(), true, spec.masks_channels(), 0, spec.threads},
                   [&](int out, int tap, int i) {
                       const Operation& op = *spec.operation;
                       const int ins = spec.in_channels(), area = op.kernel.y * op.kernel.x;
                       return op.weight.data[(static_cast<std::size_t>(out) * ins + i % ins) * area + tap * spec.joined() + i / ins];
                   }) {
        Needs mine = needs_for_positions();
        mine.accumulators = static_cast<std::size_t>(chunk) * weights_.widest();
        if (spec_.masks_channels()) mine.scattered = 2 * mine.accumulators;
        weights_.cover_needs(mine);
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        if (spec_.scatters()) prepare_scatter(run, team);
        const std::vector<Block>& blocks = weights_.choose(run.in_open, run.out_open, run.count, s);
        if (run.out_open) weights_.pack(s, team);
        const int n = static_cast<int>(blocks.size()), per_block = chunks_per_block(run, blocks, team);
        const int items = run.count > 0 ? n * per_block : 0;
        const bool parts_first = per_block >= team.threads() && weights_of_all_ <= most_weights;
        const Chunks rest = fills(run, team);
        team.run(items + rest.items, [&](int item, int thread) {
            if (item >= items) return fill(run, rest.begin(item - items), rest.end(item - items));
            const int part = parts_first ? item / n : item % per_block;
            const int first = static_cast<int>(static_cast<long long>(run.count) * part / per_block);
            const int last = static_cast<int>(static_cast<long long>(run.count) * (part + 1) / per_block);
            const Block& block = blocks[parts_first ? item % n : item / per_block];
            for (int begin = first; begin < last; begin += chunk)
                compute(run, block, s.scratch[thread], begin, std::min(chunk, last - begin));
            count(s, static_cast<long long>(last - first) * taps_ * block.in_channels * block.width);
        });
    }

private:
    int chunks_per_block(const Run& run, const std::vector<Block>& blocks, const Team& team) const {
        const int count = static_cast<int>(blocks.size());
        if (team.threads() == 1 || count == 0) return 1;
        const Block& block = blocks[0];
        const long long macs = static_cast<long long>(run.count) * taps_ * block.in_channels * block.width;
        // Many items where each is worth a while, so that no thread waits long for the last one.
        const int items = static_cast<int>(std::clamp<long long>(macs * count / worthwhile_macs, 4, 16)) * team.threads();
        const int wanted = std::max(ceil_div(items, count), 1);
        const int sensible = static_cast<int>(std::min<long long>(run.count / 24, macs / least_macs));
        return std::clamp(wanted, 1, std::max(sensible, 1));
    }

    void compute(const Run& run, const Block& block, Scratch& scratch, int first, int count) const {
        const bool aside = spec_.scatters() || block.kept;
        const int row = block.vectors * spec_.kernels->lanes;
        point(run, scratch, first, count, block.in_begin, spec_.scatters() ? 0 : block.out_begin);
        if (aside) {
            std::copy_n(scratch.outputs.begin(), count, scratch.kept.begin());
            point_aside(scratch, count, row);
        }
        Product args{};
        args.rows = scratch.rows.data();
        args.accumulators = scratch.accumulators.data();
        args.bias = block.bias;
        args.addends = spec_.addend && !aside ? scratch.addends.data() : nullptr;
        args.outputs = scratch.outputs.data();
        args.width = block.kept ? row : block.width;
        args.activation = aside ? Activation::none : spec_.activation();
        product_in_steps(*spec_.kernels, args, run.taps, taps_, block.in_channels,
                         BlockWeights{block.weights, weights_.tap_stride(block), block.weight_rows, block.vectors}, count);
        if (!aside) return;
        float* rows = block.kept ? keep(scratch, block, count, row) : scratch.scattered.data();
        if (spec_.scatters())
            return scatter(run, rows, first, count, row, run.out_open->data() + block.out_begin, block.width);
        for (int i = 0; i < count; i++, rows += row)
            put(rows, spec_.addend ? scratch.addends[i] : nullptr, block.width, scratch.kept[i]);
    }

    const int taps_;
    const std::size_t weights_of_all_ = spec_.operation->weight.size();
    const BlockedWeights weights_;
};

}  // namespace

std::unique_ptr<Layer> make_product(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<ProductConvolution>(spec, needs);
}

}  // namespace convgate
