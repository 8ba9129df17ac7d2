// Convolutions with closed output channels at few positions: positions along the vector's lanes, weights one by one, so that
// any output and input channel can be left out without moving weights. Inputs are transposed, a cache-full at a time.
#include <algorithm>

#include "convolution.h"

namespace convgate {
namespace {

constexpr int most_rows = 96;              // inputs transposed at once
constexpr long long least_macs = 1 << 17;  // worth an item of its own

int ceil_div(int a, int b) { return (a + b - 1) / b; }

class ColumnsConvolution final : public Convolution {
public:
    ColumnsConvolution(const ConvolutionSpec& spec, Needs& needs)
        : Convolution(spec),
          run_(spec.in_channels() * spec.joined()),
          parts_(ceil_div(run_, most_rows)),
          rows_(ceil_div(run_, parts_)),
          outs_(spec.out_channels()),
          lanes_(spec.kernels->lanes) {
        const Operation& op = *spec_.operation;
        const int ins = spec_.in_channels(), area = op.kernel.y * op.kernel.x;
        // [tap][part of the run][output channel][rows]: what is used together lies together.
        weights_ = Buffer(static_cast<std::size_t>(spec_.taps()) * parts_ * outs_ * rows_);
        bias_ = Buffer(outs_);
        for (int o = 0; o < outs_; o++) {
            if (op.bias.data) bias_[o] = op.bias.data[o];
            for (int t = 0; t < spec_.taps(); t++)
                for (int i = 0; i < run_; i++)
                    part(t, i / rows_)[static_cast<std::size_t>(o) * rows_ + i % rows_] =
                        op.weight.data[(static_cast<std::size_t>(o) * ins + i % ins) * area + t * spec_.joined() + i / ins];
        }
        const std::size_t widest = static_cast<std::size_t>(spec_.kernels->vectors) * lanes_;
        Needs mine = needs_for_positions();
        mine.weights = outs_ + 2 * max_tile;
        mine.columns = rows_ * widest;
        mine.accumulators = outs_ * widest;
        mine.scattered = outs_ * widest;
        mine.lists = static_cast<std::size_t>(run_) + parts_ + 1;
        mine.sample_packed = outs_;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        if (spec_.scatters()) prepare_scatter(run, team);
        const std::vector<std::int32_t>& open = *run.out_open;
        const int outs = static_cast<int>(open.size());
        for (int o = 0; o < outs; o++) s.packed[o] = bias_[open[o]];
        list_inputs(run, s);
        const int ins = run.in_open ? static_cast<int>(run.in_open->size()) * spec_.joined() : run_;
        const int vectors = ceil_div(run.count, lanes_), groups = ceil_div(vectors, spec_.kernels->vectors);
        const long long macs = static_cast<long long>(run.count) * spec_.taps() * ins * outs;
        // Items of one group of positions and a range of output channels.
        const int wanted = team.threads() == 1 ? 1 : ceil_div(4 * team.threads(), std::max(groups, 1));
        const int ranges = std::clamp(std::min<int>(wanted, static_cast<int>(macs / std::max(groups, 1) / least_macs)), 1, std::max(outs / 24, 1));
        const int items = run.count > 0 && outs > 0 ? groups * ranges : 0;
        const Chunks rest = fills(run, team);
        team.run(items + rest.items, [&](int item, int thread) {
            if (item >= items) return fill(run, rest.begin(item - items), rest.end(item - items));
            const int group = item / ranges, range = item % ranges;
            const int first = vectors * group / groups * lanes_;
            const int last = std::min(vectors * (group + 1) / groups * lanes_, run.count);
            const int begin = outs * range / ranges, end = outs * (range + 1) / ranges;
            compute(run, s, s.scratch[thread], first, last - first, begin, end - begin);
            count(s, static_cast<long long>(last - first) * spec_.taps() * ins * (end - begin));
        });
    }

private:
    float* part(int tap, int part) const {
        return weights_.data() + (static_cast<std::size_t>(tap) * parts_ + part) * outs_ * rows_;
    }

    // Lists of the open inputs of a run, as columns of their part; before them, where each part's list begins.
    void list_inputs(const Run& run, Sample& s) const {
        s.lists.clear();
        if (!run.in_open) return;
        s.lists.resize(parts_ + 1);
        for (int tap = 0; tap < spec_.joined(); tap++)
            for (const std::int32_t c : *run.in_open) {
                const int i = tap * spec_.in_channels() + c;
                s.lists.push_back(i % rows_);
                s.lists[i / rows_ + 1]++;
            }
        for (int p = 0; p < parts_; p++) s.lists[p + 1] += s.lists[p];
    }

    void compute(const Run& run, const Sample& s, Scratch& scratch, int first, int count, int out_begin, int outs) const {
        const int vectors = ceil_div(count, lanes_), lanes = vectors * lanes_;
        const std::vector<std::int32_t>& open = *run.out_open;
        point(run, scratch, first, count, 0, spec_.scatters() ? 0 : out_begin);
        Columns args{};
        args.inputs = scratch.columns.data();
        args.outputs = outs;
        args.accumulators = scratch.accumulators.data();
        args.weights = scratch.weights.data();
        args.first = true;
        for (int t = 0; t < spec_.taps(); t++)
            for (int p = 0; p < parts_; p++) {
                int begin = p * rows_, end = std::min(begin + rows_, run_);
                if (run.in_open) {
                    begin = s.lists[p], end = s.lists[p + 1];
                    args.columns = s.lists.data() + parts_ + 1 + begin;
                }
                args.rows = end - begin;
                spec_.kernels->transpose(scratch.rows.data(), run.taps[t] + begin, count, args.rows, scratch.columns.data(), lanes);
                const float* weights = part(t, p);
                for (int o = 0; o < outs; o++)
                    scratch.weights[o] = weights + static_cast<std::size_t>(open[out_begin + o]) * rows_;
                // The next part's rows follow this one's.
                const std::size_t part_size = static_cast<std::size_t>(outs_) * rows_;
                for (int o = 0; o < 2 * max_tile; o++) scratch.weights[outs + o] = scratch.weights[o % outs] + part_size;
                spec_.kernels->columns[vectors - 1](args);
                args.first = false;
            }
        finish(run, s, scratch, first, count, lanes, out_begin, outs);
    }

    // From one output channel's positions to one position's output channels.
    void finish(const Run& run, const Sample& s, Scratch& scratch, int first, int count, int lanes, int out_begin, int outs) const {
        const Kernels& k = *spec_.kernels;
        for (int o = 0; o < outs; o++) scratch.weights[o] = scratch.accumulators.data() + static_cast<std::size_t>(o) * lanes;
        float* rows = scratch.scattered.data();
        k.transpose(scratch.weights.data(), 0, outs, count, rows, outs);
        const float* bias = s.packed.data() + out_begin;
        for (int i = 0; i < count; i++) {
            float* row = rows + static_cast<std::size_t>(i) * outs;
            if (spec_.scatters()) {
                k.add(row, row, bias, outs, Activation::none);
            } else if (spec_.addend) {
                k.add(row, row, bias, outs, Activation::none);
                k.add(scratch.outputs[i], row, scratch.addends[i], outs, spec_.operation->activation);
            } else {
                k.add(scratch.outputs[i], row, bias, outs, spec_.operation->activation);
            }
        }
        if (spec_.scatters()) scatter(run, scratch, first, count, outs, run.out_open->data() + out_begin, outs);
    }

    const int run_, parts_, rows_, outs_, lanes_;
    Buffer weights_, bias_;
};

}  // namespace

std::unique_ptr<Layer> make_columns(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<ColumnsConvolution>(spec, needs);
}

}  // namespace convgate
