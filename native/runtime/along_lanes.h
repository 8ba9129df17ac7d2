// What convolutions share that have closed output channels and positions along the vector's lanes: any output channel can be
// left out. Parts of the open positions times blocks of the open outputs are shared out among threads.
#pragma once

#include <algorithm>

#include "convolution.h"
#include "steps.h"

namespace convgate {

template <typename T>
class PositionsAlongLanes : public ConvolutionOf<T, T> {
    using Base = ConvolutionOf<T, T>;

public:
    void run(Sample& s, Team& team) const final {
        const Run run = this->begin(s);
        list_inputs(run, s);
        const int ins = static_cast<int>(s.lists.size()), open = static_cast<int>(run.out_open->size());
        const int single = single_positions(run.count), vectors = ceil_div(run.count - single, lanes_);
        const long long macs = static_cast<long long>(run.count) * taps_ * ins * open;
        const Shares shares = share_out(vectors, open, macs > least_macs ? team.threads() : 1);
        const int items = vectors * open > 0 ? shares.parts * shares.blocks : 0;
        const Chunks rest = this->fills(run, team);
        team.run(items + rest.items, [&](int item, int thread) {
            if (item >= items) return this->fill(run, rest.begin(item - items), rest.end(item - items));
            const int part = item % shares.parts, block = item / shares.parts;
            const int first = vectors * part / shares.parts * lanes_;
            const bool has_single = part + 1 == shares.parts;
            const int last = has_single ? run.count : vectors * (part + 1) / shares.parts * lanes_;
            const int begin = open * block / shares.blocks, end = open * (block + 1) / shares.blocks;
            compute(run, s.lists, s.scratch[thread], first, last - first, has_single ? single : 0, begin, end - begin);
            this->count(s, static_cast<long long>(last - first) * taps_ * ins * (end - begin));
        });
    }

protected:
    using typename Base::Run;
    using Base::spec_;

    // `most_single`: so many positions beyond whole vectors are computed one by one.
    PositionsAlongLanes(const ConvolutionSpec& spec, int lanes, int most_single)
        : Base(spec), run_(spec.in_channels() * spec.joined()), taps_(spec.taps()), lanes_(lanes), most_single_(most_single) {}

    // Open outputs [begin, begin + n) at positions [first, first + count), the last `single` of them one by one; of a run's
    // inputs those in `open`.
    virtual void compute(const Run&, const std::vector<std::int32_t>& open, Scratch&, int first, int count, int single, int begin, int n) const = 0;

    Needs needs_along_lanes() const {
        Needs mine = this->needs_for_positions();
        mine.positions = most_vectors * lanes_ + most_single_;
        mine.lists = run_;
        return mine;
    }

    // An output's weights.
    std::size_t output_size() const { return static_cast<std::size_t>(taps_) * run_; }

    static constexpr int most_vectors = 12;   // of positions at once
    static constexpr int most_outputs = 128;  // at once

    const int run_, taps_, lanes_;

private:
    static constexpr long long least_macs = sizeof(float) / sizeof(T) << 16;  // worth sharing out

    int single_positions(int positions) const {
        const int rest = positions % lanes_;
        return positions > lanes_ && rest <= most_single_ ? rest : 0;
    }

    // Parts of the positions, blocks of the open outputs.
    struct Shares {
        int parts, blocks;
    };
    static Shares share_out(int vectors, int open, int threads) {
        int parts = ceil_div(vectors, most_vectors), blocks = ceil_div(open, most_outputs);
        if (threads == 1) return {parts, blocks};
        // Where there are parts for all threads, each has whole parts; else each reads its own outputs' weights.
        if (parts >= threads) return {std::min(ceil_div(parts, threads) * threads, vectors), blocks};
        return {parts, std::min(ceil_div(blocks, threads) * threads, open)};
    }

    // The open inputs of a run, as they lie in a row of weights.
    void list_inputs(const Run& run, Sample& s) const {
        s.lists.clear();
        if (!run.in_open)
            for (int i = 0; i < run_; i++) s.lists.push_back(i);
        else
            for (int tap = 0; tap < spec_.joined(); tap++)
                for (const std::int32_t c : *run.in_open) s.lists.push_back(tap * spec_.in_channels() + c);
    }

    const int most_single_;
};

}  // namespace convgate
