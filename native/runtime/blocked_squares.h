// What Winograd's algorithm has in common, whatever maps are stored as: parts of the squares that have open positions, whose
// inputs are transformed, times blocks of output channels.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "squares.h"

namespace convgate {

// `T`: what maps are stored as. `Block`: a range of output channels with its weights.
template <typename T, typename Block>
class BlockedSquares : public ConvolutionInSquaresOf<T> {
    using Base = ConvolutionInSquaresOf<T>;

public:
    void run(Sample& s, Team& team) const final {
        const Chosen chosen = this->choose_squares(s);
        const int squares = chosen.count;
        if (other_ && !pays(squares, this->open_positions(s))) return other_->run(s, team);
        const Run run = this->begin(s);
        const Chunks rest = this->fills(run, team);
        const std::span<const Block> blocks = prepare(run, squares, s, team);
        const int ins = run.in_open ? static_cast<int>(run.in_open->size()) : spec_.in->value.channels;
        const int outs = run.out_open ? static_cast<int>(run.out_open->size()) : spec_.out->value.channels;
        const int each = ins / spec_.operation->groups;  // what an output reads
        this->count(s, static_cast<long long>(Base::area) * run.count * each * outs);
        // Not a structured binding, which lambdas may not capture before Clang 16.
        const std::pair<int, int> shared = share_out(squares, ins, each, outs, static_cast<int>(blocks.size()), team);
        const int parts = shared.first, shares = shared.second, items = parts * shares;
        team.run(items + rest.items, [&](int item, int thread) {
            if (item >= items) return this->fill(run, rest.begin(item - items), rest.end(item - items));
            const int part = item / shares, share = item % shares, n = static_cast<int>(blocks.size());
            const int first = even_part(squares, part, parts), last = even_part(squares, part + 1, parts);
            const Block* block = blocks.data() + even_part(n, share, shares);
            const Block* const end = blocks.data() + even_part(n, share + 1, shares);
            if (first == last || block == end) return;
            Scratch& scratch = s.scratch[thread];
            this->transform_inputs(run, chosen, scratch, first, last - first, ins);
            for (; block != end; block++) {
                multiply(scratch, last - first, ins, each, block, end);
                transform_products(run, chosen, scratch, first, last - first, *block);
            }
        });
    }

protected:
    using typename Base::Chosen;
    using typename Base::Run;
    using Base::spec_;

    // What threads share out: blocks, or parts of so many squares at least.
    struct Sharing {
        bool blocks;
        int least_squares;
    };

    // `other`: what computes instead where it does not pay, or null.
    BlockedSquares(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Sharing sharing)
        : Base(spec), other_(std::move(other)), sharing_(sharing) {}

    virtual bool pays(int squares, int positions) const = 0;
    // The blocks for what is open, with their weights ready. They last until the sample's next layer.
    virtual std::span<const Block> prepare(const Run&, int squares, Sample&, Team&) const = 0;
    // At once, so that all that is transformed stays in the cache; or so many that the weights are not read too often.
    virtual int most_squares(int ins) const = 0;
    // Products of all elements, of `count` squares with a block; the next one's weights may be fetched unless it is `end`. Of
    // `all` inputs that lie there the block reads `ins`.
    virtual void multiply(Scratch&, int count, int all, int ins, const Block*, const Block* end) const = 0;
    virtual void transform_products(const Run&, const Chosen&, Scratch&, int first, int count, const Block&) const = 0;

private:
    // Parts of the squares, shares of the blocks.
    std::pair<int, int> share_out(int squares, int ins, int each, int outs, int blocks, const Team& team) const {
        if (squares == 0 || blocks == 0) return {0, 0};
        const long long macs = static_cast<long long>(squares) * elements * each * outs;
        const int threads = macs < costs::winograd_macs<T> ? 1 : team.threads(), parts = ceil_div(squares, most_squares(ins));
        if (sharing_.blocks && blocks >= threads) return {parts, threads};
        const int most = std::max(squares / sharing_.least_squares, parts);
        return {std::min(ceil_div(parts, threads) * threads, most), 1};
    }

    const std::unique_ptr<Layer> other_;
    const Sharing sharing_;
};

}  // namespace convgate
