// What depthwise convolutions have in common, whatever maps are stored as: runs of channels that lie together, at parts of the
// open positions, shared out among threads.
#pragma once

#include <algorithm>

#include "convolution.h"

namespace convgate {

// `Block`: a run of channels with its weights.
template <typename In, typename Out, typename Block>
class DepthwiseOf : public ConvolutionOf<In, Out> {
public:
    void run(Sample& s, Team& team) const final {
        const Run run = this->begin(s);
        if (spec_.scatters()) this->prepare_scatter(run, team);
        const int open = choose_runs(run, s), taps = spec_.taps();
        const long long macs = static_cast<long long>(taps) * open;
        const Chunks parts(open ? run.count : 0, static_cast<int>(least_macs_ / std::max<long long>(macs, 1)) + 1, team);
        const Chunks rest = this->fills(run, team);
        team.run(parts.items + rest.items, [&](int item, int thread) {
            if (item >= parts.items) return this->fill(run, rest.begin(item - parts.items), rest.end(item - parts.items));
            const int end = parts.end(item);
            for (int first = parts.begin(item); first < end; first += Base::chunk)
                for (const Block& block : s.blocks_of<Block>())
                    compute(run, block, s.scratch[thread], first, std::min(Base::chunk, end - first));
            this->count(s, macs * (end - parts.begin(item)));
        });
    }

protected:
    using Base = ConvolutionOf<In, Out>;
    using typename Base::Run;
    using Base::spec_;

    // least_macs: worth an item of its own.
    DepthwiseOf(const ConvolutionSpec& spec, long long least_macs) : Base(spec), channels_(spec.in->value.channels), least_macs_(least_macs) {}

    // All channels; or `n` of them, which begin at those places of the input and the output: what belongs to them is packed at
    // `to`, and `to` moves behind it.
    virtual Block whole() const = 0;
    virtual Block packed(const std::int32_t* channels, int n, int in, int out, float*& to) const = 0;
    // A block at positions [first, first + count) of the run, at most `chunk`.
    virtual void compute(const Run&, const Block&, Scratch&, int first, int count) const = 0;

    static bool slides(const Operation& op) { return op.kernel.y == 3 && op.kernel.x == 3; }
    Sliding sliding(const Run& run) const {
        const Operation& op = *spec_.operation;
        if (!slides(op)) return {};
        const int columns = op.stride.x % op.dilation.x ? 3 : std::min(op.stride.x / op.dilation.x, 3);
        return {columns, static_cast<std::ptrdiff_t>(op.stride.x) * run.in.stride};
    }

    const int channels_;

private:
    // Runs of channels that lie together in the input and in the output. Returns the number of open channels.
    int choose_runs(const Run& run, Sample& s) const {
        FixedVector<Block>& blocks = s.blocks_of<Block>();
        blocks.clear();
        if (!run.out_open) {
            blocks.push_back(whole());
            return channels_;
        }
        const std::vector<std::int32_t>& open = *run.out_open;
        const bool in_dense = !spec_.in->compact(), out_dense = !spec_.out->compact();
        const int n = static_cast<int>(open.size());
        float* to = s.packed.data();
        for (int j = 0; j < n;) {
            int length = 1;
            while (j + length < n && (!(in_dense || out_dense) || open[j + length] == open[j] + length)) length++;
            blocks.push_back(packed(open.data() + j, length, in_dense ? open[j] : j, out_dense ? open[j] : j, to));
            j += length;
        }
        return n;
    }

    const long long least_macs_;
};

}  // namespace convgate
