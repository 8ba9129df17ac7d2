// Partial sums that a convolution completes where a gate is open. Block by block of output channels, the convolution is
// computed at the positions where any of the block's channels is; which of them are, the last step chooses.
#include <algorithm>
#include <array>

#include "convolution.h"
#include "steps.h"

namespace convgate {
namespace {

constexpr long long least_macs = 1 << 16;  // worth an item of its own

// Where a run of inputs begins: that many columns and channels from the position's first tap, in that line of the kernel.
struct Start {
    int y, x, channel;
};

// Runs of inputs of one length.
struct Runs {
    std::vector<Start> starts;
    int length;
};

class CompletingConvolution final : public Convolution {
public:
    CompletingConvolution(const ConvolutionSpec& spec, const Layout& sums, const Gate& gate, Needs& needs)
        : Convolution(spec), sums_(&sums), gate_(gate), parts_(spec.operation->groups) {
        const Value& out = spec_.out->value;
        for (int y = 0; y < out.height; y++)
            for (int x = 0; x < out.width; x++) sums_at_.push_back(sums.position(y, x));
        const Operation& op = *spec_.operation;
        const Array* const arrays[] = {&op.scale, &op.shift, &op.open_scale, &op.open_shift};
        for (int i = 0; i < 4; i++) {
            norms_[i] = Buffer(out.channels);
            for (int c = 0; c < out.channels; c++) norms_[i][c] = arrays[i]->data ? arrays[i]->data[c] : i % 2 == 0;
        }
        // Without its own chunk of inputs, a block has less to compute, but it must lie within one chunk of outputs.
        const bool apart = parts_ > 1 && vectors(true) * (parts_ - 1) < vectors(false) * parts_;
        for (const auto& [begin, end] : segments(apart)) cut(begin, end, apart);
        weights_ = Buffer(weight_floats_);
        for (Part& part : blocks_) fill_weights(part);
        Needs mine = needs_for_positions();
        mine.weights = chunk;
        mine.accumulators = static_cast<std::size_t>(chunk) * spec_.kernels->vectors * spec_.kernels->lanes;
        mine.spread = static_cast<std::size_t>(chunk) * spec_.kernels->vectors * spec_.kernels->lanes;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        const Both both{run, s.view(*sums_), s.gates[spec_.operation->gate]};
        const int per_block = team.threads() == 1 ? 1 : positions_apart(team);
        team.run(static_cast<int>(blocks_.size()) * per_block, [&](int item, int thread) {
            const int part = item % per_block;
            const int first = static_cast<int>(static_cast<long long>(run.count) * part / per_block);
            const int last = static_cast<int>(static_cast<long long>(run.count) * (part + 1) / per_block);
            const Part& block = blocks_[item / per_block];
            count(s, block.macs * compute(both, block, s.scratch[thread], first, last));
        });
    }

private:
    // Output channels that are computed together. `unit` is the one that they all belong to, or -1.
    struct Part {
        int begin, width, vectors, unit;
        std::vector<Runs> runs;
        std::size_t weights;
        std::vector<std::ptrdiff_t> taps;  // of all runs, in floats from the first tap
        long long macs;                    // of one activation
    };
    // The tensors of a call.
    struct Both {
        const Run& run;
        View sums;
        const GateState& gate;
    };
    // Positions for one call of a kernel.
    struct Batch {
        int count = 0;
        std::int32_t positions[chunk];
    };

    int outs() const { return spec_.out->value.channels; }
    int ins() const { return spec_.in->value.channels; }
    int lanes() const { return spec_.kernels->lanes; }
    bool within_units() const { return gate_.group >= lanes(); }

    // Ranges of output channels that blocks may not straddle: chunks if they are computed apart, and the gate's units where
    // they fill vectors.
    std::vector<std::pair<int, int>> segments(bool apart) const {
        const int chunk_size = outs() / parts_;
        std::vector<std::pair<int, int>> found;
        for (int begin = 0; begin < outs();) {
            int end = outs();
            if (apart) end = std::min(end, (begin / chunk_size + 1) * chunk_size);
            if (within_units()) end = std::min(end, (begin / gate_.group + 1) * gate_.group);
            found.push_back({begin, end});
            begin = end;
        }
        return found;
    }
    long long vectors(bool apart) const {
        long long n = 0;
        for (const auto& [begin, end] : segments(apart)) n += ceil_div(end - begin, lanes());
        return n;
    }

    // A range in blocks, of single vectors where each has several units: the fewer channels, the more are all closed.
    void cut(int begin, int end, bool apart) {
        const Operation& op = *spec_.operation;
        const int own = parts_ > 1 ? ins() / parts_ : 0, vectors = ceil_div(end - begin, lanes());
        const int blocks = ceil_div(vectors, within_units() ? spec_.kernels->vectors : 1);
        for (int b = 0; b < blocks; b++) {
            const int first = begin + vectors * b / blocks * lanes(), last = std::min(begin + vectors * (b + 1) / blocks * lanes(), end);
            Part part{first, last - first, ceil_div(last - first, lanes()), -1, {}, weight_floats_, {}, 0};
            if (first / gate_.group == (last - 1) / gate_.group) part.unit = first / gate_.group;
            part.macs = static_cast<long long>(ins() - own) * op.kernel.y * op.kernel.x;
            part.runs = apart ? all_but(first / (outs() / parts_) * own, own) : all_inputs();
            for (const Runs& runs : part.runs) {
                weight_floats_ += runs.starts.size() * runs.length * part.vectors * lanes();
                for (const Start& start : runs.starts)
                    part.taps.push_back((static_cast<std::ptrdiff_t>(start.y) * op.dilation.y * spec_.in->width() +
                                         start.x * op.dilation.x) * ins() + start.channel);
            }
            blocks_.push_back(std::move(part));
        }
    }

    // The taps of a line are next to each other in memory, if it is not dilated.
    bool joins() const { return spec_.operation->dilation.x == 1; }

    std::vector<Start> starts(int first_x, int last_x, int channel) const {
        std::vector<Start> found;
        for (int y = 0; y < spec_.operation->kernel.y; y++)
            for (int x = first_x; x < last_x; x++) found.push_back({y, x, channel});
        return found;
    }

    std::vector<Runs> all_inputs() const {
        const int width = spec_.operation->kernel.x;
        if (joins()) return {{starts(0, 1, 0), width * ins()}};
        return {{starts(0, width, 0), ins()}};
    }

    // But for `n` channels from `begin` on. What is between those of two neighbouring taps is one run.
    std::vector<Runs> all_but(int begin, int n) const {
        const int width = spec_.operation->kernel.x, end = begin + n;
        std::vector<Runs> all;
        if (joins())
            all = {{starts(0, 1, 0), begin}, {starts(0, width - 1, end), ins() - n}, {starts(width - 1, width, end), ins() - end}};
        else
            all = {{starts(0, width, 0), begin}, {starts(0, width, end), ins() - end}};
        std::erase_if(all, [](const Runs& runs) { return runs.length == 0 || runs.starts.empty(); });
        return all;
    }

    // In the order in which they are read; zeros for inputs that the partial sums know already.
    void fill_weights(const Part& part) {
        const Operation& op = *spec_.operation;
        const int row = part.vectors * lanes(), area = op.kernel.y * op.kernel.x;
        const int own = parts_ > 1 ? ins() / parts_ : 0, reads = ins() - own;
        float* to = weights_.data() + part.weights;
        for (const Runs& runs : part.runs)
            for (const Start& start : runs.starts)
                for (int i = 0; i < runs.length; i++, to += row) {
                    const int x = start.x + (start.channel + i) / ins(), c = (start.channel + i) % ins();
                    for (int o = part.begin; o < part.begin + part.width; o++) {
                        const int skipped = own ? o / (outs() / parts_) * own : ins();
                        if (own && c >= skipped && c < skipped + own) continue;
                        const int read = c < skipped ? c : c - own;
                        to[o - part.begin] = op.weight.data[(static_cast<std::size_t>(o) * reads + read) * area + start.y * op.kernel.x + x];
                    }
                }
    }

    int positions_apart(const Team& team) const {
        const int blocks = static_cast<int>(blocks_.size()), positions = spec_.out->value.positions();
        const long long macs = static_cast<long long>(positions) * blocks_[0].macs * blocks_[0].width;
        const long long sensible = std::min<long long>(positions / 48, macs / least_macs);
        return static_cast<int>(std::clamp<long long>(ceil_div(8 * team.threads(), blocks), 1, std::max(sensible, 1LL)));
    }

    // Positions [first, last) of a block; returns how many activations are open.
    long long compute(const Both& both, const Part& part, Scratch& scratch, int first, int last) const {
        Batch open, closed;
        long long activations = 0;
        for (int p = first; p < last; p++) {
            const std::uint8_t* units = both.gate.at(p);
            const int channels = part.unit >= 0 ? units[part.unit] * part.width
                                                : spread(part, units, scratch, open.count);
            activations += channels;
            Batch& batch = channels ? open : closed;
            batch.positions[batch.count++] = p;
            if (batch.count < chunk) continue;
            finish(both, part, scratch, batch, channels > 0);
        }
        finish(both, part, scratch, open, true);
        finish(both, part, scratch, closed, false);
        return activations;
    }

    // Which channels are open, for the i-th open position; how many.
    int spread(const Part& part, const std::uint8_t* units, Scratch& scratch, int i) const {
        if (gate_.group == 1) {
            scratch.open[i] = units + part.begin;
            int channels = 0;
            for (int c = 0; c < part.width; c++) channels += scratch.open[i][c];
            return channels;
        }
        std::uint8_t* to = scratch.spread.data() + static_cast<std::ptrdiff_t>(i) * part.vectors * lanes();
        scratch.open[i] = to;
        int channels = 0;
        for (int c = 0; c < part.width; c++) channels += to[c] = units[(part.begin + c) / gate_.group];
        return channels;
    }

    // What the positions' activations are, with the rest of their sums if they are open.
    void finish(const Both& both, const Part& part, Scratch& scratch, Batch& batch, bool open) const {
        const Run& run = both.run;
        if (batch.count == 0) return;
        Completion args{};
        if (open) {
            for (int i = 0; i < batch.count; i++)
                scratch.rows[i] = run.in.data + static_cast<std::ptrdiff_t>(in_at_[batch.positions[i]]) * run.in.stride;
            multiply(part, scratch, batch.count);
            args.rest = scratch.accumulators.data();
            args.rest_stride = part.vectors * lanes();
            args.open = part.unit < 0 ? scratch.open.data() : nullptr;
        }
        for (int i = 0; i < batch.count; i++) {
            const int p = batch.positions[i];
            scratch.weights[i] = both.sums.data + static_cast<std::ptrdiff_t>(sums_at_[p]) * both.sums.stride + part.begin;
            scratch.outputs[i] = run.out.data + static_cast<std::ptrdiff_t>(out_at_[p]) * run.out.stride + part.begin;
            if (spec_.addend)
                scratch.addends[i] = run.addend.data + static_cast<std::ptrdiff_t>(addend_at_[p]) * run.addend.stride + part.begin;
        }
        args.sums = scratch.weights.data();
        args.scale = norms_[0].data() + part.begin;
        args.shift = norms_[1].data() + part.begin;
        args.open_scale = norms_[2].data() + part.begin;
        args.open_shift = norms_[3].data() + part.begin;
        args.addends = spec_.addend ? scratch.addends.data() : nullptr;
        args.outputs = scratch.outputs.data();
        args.width = part.width;
        args.activation = spec_.operation->activation;
        spec_.kernels->complete(args, batch.count);
        batch.count = 0;
    }

    // The convolution at the rows' positions; what it adds up to stays in the accumulators.
    void multiply(const Part& part, Scratch& scratch, int count) const {
        Product args{};
        args.rows = scratch.rows.data();
        args.accumulators = scratch.accumulators.data();
        const int row = part.vectors * lanes();
        const float* weights = weights_.data() + part.weights;
        const std::ptrdiff_t* taps = part.taps.data();
        bool first = true;
        for (const Runs& runs : part.runs) {
            const int n = static_cast<int>(runs.starts.size());
            const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(runs.length) * row;
            product_in_steps(*spec_.kernels, args, taps, n, runs.length, {weights, stride, nullptr, part.vectors}, count, {first, false});
            weights += n * stride;
            taps += n;
            first = false;
        }
    }

    const Layout* sums_;
    const Gate gate_;
    const int parts_;
    std::array<Buffer, 4> norms_;  // scale and shift where it is closed, and where it is open
    std::vector<std::int32_t> sums_at_;
    std::vector<Part> blocks_;
    std::size_t weight_floats_ = 0;
    Buffer weights_;
};

}  // namespace

std::unique_ptr<Layer> make_completion(const ConvolutionSpec& spec, const Layout& sums, const Gate& gate, Needs& needs) {
    return std::make_unique<CompletingConvolution>(spec, sums, gate, needs);
}

}  // namespace convgate
