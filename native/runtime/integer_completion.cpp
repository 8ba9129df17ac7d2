// Partial sums of integers, decisions on them, and their completion where a gate is open: as completion.cpp's, with sums of
// 32 bits. The rest of a sum is computed for all channels of a block at the positions where any of them is open.
#include "completing.h"
#include "shared.h"
#include "simple.h"

namespace convgate {
namespace {

class IntegerCompletion final : public CompletingOf<std::uint8_t, std::int32_t> {
public:
    IntegerCompletion(const ConvolutionSpec& spec, const Layout& sums, const Gate& gate, Needs& needs)
        : CompletingOf(spec, sums, gate, {spec.integers->lanes, spec.integers->row / spec.integers->lanes, spec.integers->row}, costs::integer_completion_macs),
          kernels_(*spec.integers),
          row_(kernels_.row),
          weights_(ordered()) {
        const Operation& op = *spec_.operation;
        keep(closed_, op.bias, op.multiplier, op.shifts);
        keep(opened_, op.open_bias, op.open_multiplier, op.open_shifts);
        for (const RestBlock& block : blocks_.all()) {
            // What sums start at is no more than what inputs with a sign need, of each stretch of runs.
            const std::vector<std::int32_t> none(row_, 0);
            Int8Product args{};
            args.is_signed = spec_.in->value.is_signed();
            args.weights = weights_.data() + block.weights;
            starts_at_.push_back(starts_.size());
            for (const Runs& runs : block.runs) {
                describe(runs, args);
                starts_.resize(starts_.size() + row_);
                starts(kernels_, args, none.data(), starts_.data() + starts_.size() - row_);
                args.weights += args.tap_count * args.tap_stride;
            }
        }
        Needs mine = needs_for_positions();
        mine.accumulators = static_cast<std::size_t>(chunk) * row_;
        mine.spread = static_cast<std::size_t>(chunk) * row_;
        needs.cover(mine);
    }

private:
    struct Following {
        std::vector<std::int32_t> bias, multiplier, shift;
        Int8Completion::Following from(int channel) const { return {bias.data() + channel, multiplier.data() + channel, shift.data() + channel}; }
    };

    BufferOf<std::int8_t> ordered() const {
        BufferOf<std::int8_t> weights(blocks_.weights());
        for (const RestBlock& block : blocks_.all())
            blocks_.each(block, [&](int row, int o, std::size_t from) {
                weights[block.weights + static_cast<std::size_t>(row) * row_ + kernels_.place(o)] = spec_.operation->weight.bytes[from];
            });
        return weights;
    }

    // The arrays belong to the caller.
    void keep(Following& to, const Array& bias, const Array& multiplier, const Array& shift) const {
        const int n = spec_.out->value.channels;
        to.bias.assign(bias.integers, bias.integers + n);
        to.multiplier.assign(multiplier.integers, multiplier.integers + n);
        to.shift.assign(shift.integers, shift.integers + n);
    }

    void describe(const Runs& runs, Int8Product& args) const {
        args.tap_count = static_cast<int>(runs.starts.size());
        args.count = runs.length;
        args.tap_stride = static_cast<std::ptrdiff_t>(runs.length) * row_;
    }

    void finish(const Tensors& tensors, int number, Scratch& scratch, const Batch& batch, bool open) const override {
        const RestBlock& block = blocks_.all()[number];
        const Operation& op = *spec_.operation;
        Int8Completion args{};
        if (open) {
            multiply(tensors, number, scratch, batch);
            args.rest = reinterpret_cast<const std::int32_t*>(scratch.accumulators.data());
            args.rest_stride = row_;
            args.open = open_channels(block, scratch);
        }
        point_batch(tensors, scratch, batch, block.begin, scratch.sums.rows.data());
        args.sums = scratch.sums.rows.data();
        args.closed = closed_.from(block.begin);
        args.opened = opened_.from(block.begin);
        args.addend = op.rescale[1];
        args.addend_signed = spec_.addend && spec_.addend->value.is_signed();
        args.low = op.low, args.high = op.high;
        args.addends = spec_.addend ? scratch.bytes.addends.data() : nullptr;
        args.outputs = scratch.bytes.outputs.data();
        args.width = block.width;
        kernels_.complete(args, batch.count);
    }

    // The convolution at a batch's positions; its sums stay in the accumulators.
    void multiply(const Tensors& tensors, int number, Scratch& scratch, const Batch& batch) const {
        const RestBlock& block = blocks_.all()[number];
        std::int32_t* const to = reinterpret_cast<std::int32_t*>(scratch.accumulators.data());
        for (int i = 0; i < batch.count; i++) {
            scratch.bytes.rows[i] = input(tensors, batch.positions[i]);
            scratch.sums.outputs[i] = to + static_cast<std::ptrdiff_t>(i) * row_;
        }
        Int8Product args{};
        args.rows = scratch.bytes.rows.data();
        args.positions = batch.count;
        args.is_signed = spec_.in->value.is_signed();
        args.taps = block.taps.data();
        args.weights = weights_.data() + block.weights;
        args.start = starts_.data() + starts_at_[number];
        args.width = block.width;
        args.sums = scratch.sums.outputs.data();
        for (const Runs& runs : block.runs) {
            describe(runs, args);
            kernels_.product(args);
            args.taps += args.tap_count;
            args.weights += args.tap_count * args.tap_stride;
            args.start += row_;
            args.adds = true;
        }
    }

    const Int8Kernels& kernels_;
    const int row_;
    SharedBufferOf<std::int8_t> weights_;
    std::vector<std::int32_t> starts_;     // [stretch of runs][row]
    std::vector<std::size_t> starts_at_;   // of each block
    Following closed_, opened_;
};

// A threshold on the sum of each unit's partial sums.
class SumDecision final : public Layer {
public:
    SumDecision(SimpleSpec spec, const Gate& gate) : spec_(std::move(spec)), gate_(gate) {
        const Operation& op = *spec_.operation;
        offset_.assign(op.weight.integers, op.weight.integers + gate_.units);
        scale_.assign(op.scale.data, op.scale.data + gate_.units);
    }

    void run(Sample& s, Team& team) const override {
        GateState& gate = s.gates[spec_.operation->output];
        const ViewOf<std::int32_t> in = s.view_of<std::int32_t>(*spec_.in[0]);
        const int channels = in.layout->value.channels;
        const Chunks lines(gate_.rows, costs::simple_elements / (gate_.columns * channels) + 1, team);
        team.run(lines.items, [&](int item, int) {
            for (int y = lines.begin(item); y < lines.end(item); y++)
                for (int x = 0; x < gate_.columns; x++) {
                    const std::size_t at = (static_cast<std::size_t>(y) * gate_.columns + x) * gate_.units;
                    decide(in.at(y, x), channels, gate.logits.data() + at, gate.mask.data() + at);
                }
        });
        gate.decide(s.given ? s.given[spec_.operation->output] : nullptr);
    }

private:
    void decide(const std::int32_t* sums, int channels, float* logits, std::uint8_t* mask) const {
        const int least = spec_.operation->strict ? 1 : 0;
        for (int u = 0; u < gate_.units; u++) {
            std::int32_t above = offset_[u];
            for (int c = u * gate_.group; c < std::min((u + 1) * gate_.group, channels); c++) above += sums[c];
            mask[u] = above >= least;
            logits[u] = static_cast<float>(above) * scale_[u];
        }
    }

    SimpleSpec spec_;
    const Gate gate_;
    std::vector<std::int32_t> offset_;
    std::vector<float> scale_;
};

}  // namespace

std::unique_ptr<Layer> make_integer_completion(const ConvolutionSpec& spec, const Layout& sums, const Gate& gate, Needs& needs) {
    return std::make_unique<IntegerCompletion>(spec, sums, gate, needs);
}

std::unique_ptr<Layer> make_decide_sums(const SimpleSpec& spec, const Gate& gate) { return std::make_unique<SumDecision>(spec, gate); }

}  // namespace convgate
