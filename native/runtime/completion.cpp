// Partial sums that a convolution completes where a gate is open. Block by block of output channels, the convolution is
// computed at the positions where any of the block's channels is; which of them are, the last step chooses.
#include <algorithm>
#include <array>

#include "rest.h"
#include "steps.h"

namespace convgate {
namespace {

constexpr long long least_macs = 1 << 16;  // worth an item of its own

class CompletingConvolution final : public Convolution {
public:
    CompletingConvolution(const ConvolutionSpec& spec, const Layout& sums, const Gate& gate, Needs& needs)
        : Convolution(spec), sums_(&sums), gate_(gate), blocks_(spec, gate, {spec.kernels->lanes, spec.kernels->vectors, 0}), weights_(blocks_.weights()) {
        for (const RestBlock& block : blocks_.all())
            blocks_.each(block, [&](int row, int o, std::size_t from) { weights_[block.weights + row * this->row(block) + o] = spec.operation->weight.data[from]; });
        const Value& out = spec_.out->value;
        for (int y = 0; y < out.height; y++)
            for (int x = 0; x < out.width; x++) sums_at_.push_back(sums.position(y, x));
        const Operation& op = *spec_.operation;
        const Array* const arrays[] = {&op.scale, &op.shift, &op.open_scale, &op.open_shift};
        for (int i = 0; i < 4; i++) {
            norms_[i] = Buffer(out.channels);
            for (int c = 0; c < out.channels; c++) norms_[i][c] = arrays[i]->data ? arrays[i]->data[c] : i % 2 == 0;
        }
        Needs mine = needs_for_positions();
        mine.weights = chunk;
        mine.accumulators = mine.spread = static_cast<std::size_t>(chunk) * spec_.kernels->vectors * spec_.kernels->lanes;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        const Tensors tensors{run, s.view(*sums_), s.gates[spec_.operation->gate]};
        const std::vector<RestBlock>& blocks = blocks_.all();
        const int parts = parts_of_positions(team);
        team.run(static_cast<int>(blocks.size()) * parts, [&](int item, int thread) {
            const RestBlock& block = blocks[item / parts];
            const long long part = item % parts;
            const int first = static_cast<int>(run.count * part / parts), last = static_cast<int>(run.count * (part + 1) / parts);
            count(s, block.macs * compute(tensors, block, s.scratch[thread], first, last));
        });
    }

private:
    struct Tensors {
        const Run& run;
        View sums;
        const GateState& gate;
    };
    // Positions for one call of a kernel.
    struct Batch {
        int count = 0;
        std::int32_t positions[chunk];
    };

    std::size_t row(const RestBlock& block) const { return blocks_.row(block); }

    int parts_of_positions(const Team& team) const {
        if (team.threads() == 1) return 1;
        const int blocks = static_cast<int>(blocks_.all().size()), positions = spec_.out->value.positions();
        const RestBlock& block = blocks_.all()[0];
        const long long sensible = std::min<long long>(positions / 48, positions * block.macs * block.width / least_macs);
        return static_cast<int>(std::clamp<long long>(ceil_div(8 * team.threads(), blocks), 1, std::max(sensible, 1LL)));
    }

    // Positions [first, last) of a block; returns how many activations are open.
    long long compute(const Tensors& tensors, const RestBlock& block, Scratch& scratch, int first, int last) const {
        Batch open, closed;
        long long activations = 0;
        for (int p = first; p < last; p++) {
            const std::uint8_t* units = tensors.gate.at(p);
            const int channels = block.unit >= 0 ? units[block.unit] * block.width : spread(block, units, scratch, open.count);
            activations += channels;
            Batch& batch = channels ? open : closed;
            batch.positions[batch.count++] = p;
            if (batch.count == chunk) finish(tensors, block, scratch, batch, channels > 0);
        }
        finish(tensors, block, scratch, open, true);
        finish(tensors, block, scratch, closed, false);
        return activations;
    }

    // Which of the block's channels are open, for the i-th position of a batch; how many.
    int spread(const RestBlock& block, const std::uint8_t* units, Scratch& scratch, int i) const {
        int channels = 0;
        if (gate_.group == 1) {
            scratch.open[i] = units + block.begin;
            for (int c = 0; c < block.width; c++) channels += scratch.open[i][c];
            return channels;
        }
        std::uint8_t* to = scratch.spread.data() + static_cast<std::ptrdiff_t>(i) * row(block);
        scratch.open[i] = to;
        for (int c = 0; c < block.width; c++) channels += to[c] = units[(block.begin + c) / gate_.group];
        return channels;
    }

    // A batch's activations, with the rest of their sums if any are open. Empties it.
    void finish(const Tensors& tensors, const RestBlock& block, Scratch& scratch, Batch& batch, bool open) const {
        const Run& run = tensors.run;
        if (batch.count == 0) return;
        Completion args{};
        if (open) {
            for (int i = 0; i < batch.count; i++)
                scratch.rows[i] = run.in.data + static_cast<std::ptrdiff_t>(in_at_[batch.positions[i]]) * run.in.stride;
            multiply(block, scratch, batch.count);
            args.rest = scratch.accumulators.data();
            args.rest_stride = row(block);
            args.open = block.unit < 0 ? scratch.open.data() : nullptr;
        }
        for (int i = 0; i < batch.count; i++) {
            const int p = batch.positions[i];
            const auto at = [&](const View& view, std::int32_t position) {
                return view.data + static_cast<std::ptrdiff_t>(position) * view.stride + block.begin;
            };
            scratch.weights[i] = at(tensors.sums, sums_at_[p]);
            scratch.outputs[i] = at(run.out, out_at_[p]);
            if (spec_.addend) scratch.addends[i] = at(run.addend, addend_at_[p]);
        }
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
        batch.count = 0;
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

    const Layout* sums_;
    const Gate gate_;
    const RestBlocks blocks_;
    Buffer weights_;
    std::array<Buffer, 4> norms_;  // scale and shift where it is closed, and where it is open
    std::vector<std::int32_t> sums_at_;
};

}  // namespace

std::unique_ptr<Layer> make_completion(const ConvolutionSpec& spec, const Layout& sums, const Gate& gate, Needs& needs) {
    return std::make_unique<CompletingConvolution>(spec, sums, gate, needs);
}

}  // namespace convgate
