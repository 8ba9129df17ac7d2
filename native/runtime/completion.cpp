// Partial sums that a convolution completes where a gate is open. Block by block of output channels, the convolution is
// computed at the positions where any of the block's channels is; which of them are, the last step chooses.
#include <array>

#include "completing.h"
#include "shared.h"
#include "steps.h"

namespace convgate {
namespace {

class Completing final : public CompletingOf<float, float> {
public:
    Completing(const ConvolutionSpec& spec, const Layout& sums, const Gate& gate, Needs& needs)
        : CompletingOf(spec, sums, gate, {spec.kernels->lanes, spec.kernels->vectors, 0}, costs::completion_macs), weights_(ordered()) {
        const int channels = spec_.out->value.channels;
        const Operation& op = *spec_.operation;
        const Array* const arrays[] = {&op.scale, &op.shift, &op.open_scale, &op.open_shift};
        for (int i = 0; i < 4; i++) {
            norms_[i] = Buffer(channels);
            for (int c = 0; c < channels; c++) norms_[i][c] = arrays[i]->data ? arrays[i]->data[c] : i % 2 == 0;
        }
        Needs mine = needs_for_positions();
        mine.weights = chunk;
        mine.accumulators = mine.spread = static_cast<std::size_t>(chunk) * spec_.kernels->vectors * spec_.kernels->lanes;
        needs.cover(mine);
    }

private:
    std::size_t row(const RestBlock& block) const { return blocks_.row(block); }

    Buffer ordered() const {
        Buffer weights(blocks_.weights());
        for (const RestBlock& block : blocks_.all())
            blocks_.each(block, [&](int row, int o, std::size_t from) { weights[block.weights + row * this->row(block) + o] = spec_.operation->weight.data[from]; });
        return weights;
    }

    void finish(const Tensors& tensors, int number, Scratch& scratch, const Batch& batch, bool open) const override {
        const RestBlock& block = blocks_.all()[number];
        Completion args{};
        if (open) {
            for (int i = 0; i < batch.count; i++) scratch.rows[i] = input(tensors, batch.positions[i]);
            multiply(block, scratch, batch.count);
            args.rest = scratch.accumulators.data();
            args.rest_stride = row(block);
            args.open = open_channels(block, scratch);
        }
        point_batch(tensors, scratch, batch, block.begin, scratch.weights.data());
        args.sums = scratch.weights.data();
        args.scale = norms_[0].data() + block.begin;
        args.shift = norms_[1].data() + block.begin;
        args.open_scale = norms_[2].data() + block.begin;
        args.open_shift = norms_[3].data() + block.begin;
        args.addends = spec_.addend ? scratch.addends.data() : nullptr;
        args.outputs = scratch.outputs.data();
        args.width = block.width;
        args.activation = spec_.activation();
        spec_.kernels->complete(args, batch.count);
    }

    // The convolution at the rows' positions; its results stay in the accumulators.
    void multiply(const RestBlock& block, Scratch& scratch, int count) const {
        Product args{};
        args.rows = scratch.rows.data();
        args.accumulators = scratch.accumulators.data();
        const float* weights = weights_.data() + block.weights;
        const std::ptrdiff_t* taps = block.taps.data();
        for (const Runs& runs : block.runs) {
            const int n = static_cast<int>(runs.starts.size());
            const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(runs.length) * row(block);
            const Piece piece{&runs == &block.runs.front(), false};
            product_in_steps(*spec_.kernels, args, taps, n, runs.length, BlockWeights{weights, stride, nullptr, block.vectors}, count, piece);
            weights += n * stride;
            taps += n;
        }
    }

    SharedBuffer weights_;
    std::array<Buffer, 4> norms_;  // scale and shift where it is closed, and where it is open
};

}  // namespace

std::unique_ptr<Layer> make_completion(const ConvolutionSpec& spec, const Layout& sums, const Gate& gate, Needs& needs) {
    return std::make_unique<Completing>(spec, sums, gate, needs);
}

}  // namespace convgate
