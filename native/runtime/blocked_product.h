// What products have in common, whatever maps are stored as: blocks of output channels, each with the inputs that it reads,
// times parts of the open positions, shared out among threads.
#pragma once

#include <algorithm>
#include <span>

#include "convolution.h"
#include "steps.h"

namespace convgate {

// `Base`: ConvolutionOf some types, or what inherits from it. `Block`: a range of output channels with its weights.
template <typename Base, typename Block>
class BlockedProduct : public Base {
public:
    void run(Sample& s, Team& team) const final {
        const Run run = this->begin(s);
        if (spec_.scatters()) this->prepare_scatter(run, team);
        const std::span<const Block> blocks = prepare(run, s, team);
        const int n = static_cast<int>(blocks.size()), per_block = parts_per_block(run, blocks, team);
        const int items = run.count > 0 ? n * per_block : 0;
        // Weights that stay in the cache are read by each thread for its own positions; else each block by one thread.
        const bool parts_first = per_block >= team.threads() && costs::stays_in_second_cache(spec_.operation->weight.size() * sizeof(Element));
        const Chunks rest = this->fills(run, team);
        auto body = [&](int item, int thread) {
            if (item >= items) return this->fill(run, rest.begin(item - items), rest.end(item - items));
            const int part = parts_first ? item / n : item % per_block;
            const int first = even_part(run.count, part, per_block);
            const int last = even_part(run.count, part + 1, per_block);
            const Block& block = blocks[parts_first ? item % n : item / per_block];
            for (int begin = first; begin < last; begin += Base::chunk)
                compute(run, block, s.scratch[thread], begin, std::min(Base::chunk, last - begin));
            this->count(s, static_cast<long long>(last - first) * taps_ * block.in_channels * block.width);
        };
        const bool pays = rest.items > 1 || (n > 0 && macs_of(run, blocks[0]) * n >= costs::product_macs<Element>);
        team.run_if(pays, items + rest.items, body);
    }

protected:
    using typename Base::Run;
    using Base::spec_;

    explicit BlockedProduct(const ConvolutionSpec& spec) : Base(spec), taps_(spec.taps()) {}

    // The blocks for what is open, with their weights ready. They last until the sample's next layer.
    virtual std::span<const Block> prepare(const Run&, Sample&, Team&) const = 0;
    // A block at positions [first, first + count) of the run, at most `chunk`.
    virtual void compute(const Run&, const Block&, Scratch&, int first, int count) const = 0;

    const int taps_;

private:
    using Element = typename Base::Input;

    long long macs_of(const Run& run, const Block& block) const {
        return static_cast<long long>(run.count) * taps_ * block.in_channels * block.width;
    }

    int parts_per_block(const Run& run, std::span<const Block> blocks, const Team& team) const {
        const int count = static_cast<int>(blocks.size());
        if (team.threads() == 1 || count == 0) return 1;
        return costs::parts_per_block<Element>(macs_of(run, blocks[0]), run.count, count, team.threads());
    }
};

}  // namespace convgate
