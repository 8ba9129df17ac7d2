// What convolutions share that have closed output channels and positions along the vector's lanes: any output channel can be
// left out. Parts of the open positions times blocks of the open outputs are shared out among threads; of both, inputs and
// weights, words of 32 bits are multiplied, which hold two or four elements. Outputs lie without gaps (such values have no addend,
// layouts.cpp).
#pragma once

#include <algorithm>
#include <cstring>

#include "convolution.h"
#include "shared.h"
#include "steps.h"

namespace convgate {

// Whether there can be such a layer, and it serves better than packing weights.
inline bool suits_along_lanes(const ConvolutionSpec& spec, const costs::AlongLanes& least) {
    const Operation& op = *spec.operation;
    const long long length = static_cast<long long>(spec.in_channels()) * op.kernel.y * op.kernel.x;
    return op.groups == 1 && spec.masks_channels() && !spec.scatters() && !spec.addend &&
           costs::suits_along_lanes(least, spec.out->value.positions(), spec.out_channels(), length);
}

// Of maps that are stored as T.
template <typename T>
class PositionsAlongLanes : public ConvolutionOf<T, T> {
    using Base = ConvolutionOf<T, T>;

public:
    void run(Sample& s, Team& team) const override {
        const Run run = this->begin(s);
        const Open open = list(run, s);
        const int single = single_positions(run.count), vectors = ceil_div(run.count - single, lanes_);
        const long long macs = static_cast<long long>(run.count) * taps_ * open.inputs * run.out_open->size();
        const Shares shares = share_out(vectors, open, macs > costs::along_lanes_macs<T> ? team.threads() : 1);
        const int items = vectors * open.pieces > 0 ? shares.parts * shares.blocks : 0;
        const Chunks rest = this->fills(run, team);
        team.run(items + rest.items, [&](int item, int thread) {
            if (item >= items) return this->fill(run, rest.begin(item - items), rest.end(item - items));
            const int part = item % shares.parts, block = item / shares.parts;
            const int first = even_part(vectors, part, shares.parts) * lanes_;
            const bool has_single = part + 1 == shares.parts;
            const int last = has_single ? run.count : even_part(vectors, part + 1, shares.parts) * lanes_;
            const Pieces pieces{even_part(open.pieces, block, shares.blocks), even_part(open.pieces, block + 1, shares.blocks)};
            const Outputs outputs = outputs_of(s, pieces);
            Scratch& scratch = s.scratch[thread];
            this->point(run, scratch, first, last - first, 0, outputs.begin);
            compute({run, s, scratch, open.inputs, last - first, has_single ? single : 0, outputs.begin, outputs.count, pieces});
            this->count(s, static_cast<long long>(last - first) * taps_ * open.inputs * outputs.count);
        });
    }

private:
    static constexpr int most_vectors = costs::vectors_at_once;
    static constexpr int most_groups = most_vectors / max_vectors;
    static_assert(most_vectors % max_vectors == 0);
    static constexpr int most_outputs = costs::outputs_at_once;
    static constexpr int most_words = costs::transposed_bytes / 4;  // of inputs at positions that are transposed at once
    static constexpr int most_following = 3;

protected:
    using typename Base::Run;
    using Base::spec_;
    using Word = std::conditional_t<sizeof(T) == 1, std::int32_t, float>;
    static constexpr int in_word = sizeof(Word) / sizeof(T);

    // What is open of a sample: inputs of a tap's run, and outputs in so many pieces, of which `at_once` are computed at once.
    struct Open {
        int inputs, pieces, at_once;
    };
    struct Pieces {
        int begin, end;
    };
    struct Outputs {
        int begin, count;
    };

    // What a thread computes at once: open outputs [begin, begin + outputs), which are those of `pieces`, at the positions that
    // `scratch` points to, of which the last `single` are computed one by one.
    struct Item {
        const Run& run;
        const Sample& sample;
        Scratch& scratch;
        int inputs, count, single, begin, outputs;
        Pieces pieces;

        int in_lanes() const { return count - single; }
        int output(int j) const { return (*run.out_open)[begin + j]; }
    };
    // Of a tap's open inputs those in [begin, begin + count), and those of the next step, if there is one.
    struct Step {
        int tap, begin, count;
        int next_tap, next_begin, next_count;
        bool is_first, is_last;
    };

    // Positions [begin, begin + count) of an item, in `width` lanes: as many vectors as a kernel computes. Their sums lie group
    // by group as [output][position], then those of single positions.
    struct Group {
        int begin, width, count;
    };
    struct Groups {
        Group all[most_groups];
        int count;
        int inputs;  // of a step, at most
        const Group* begin() const { return all; }
        const Group* end() const { return all + count; }
    };

    // `most_single`: so many positions beyond whole vectors are computed one by one. `flips`: kernels read bytes with their highest
    // bit the other way round. `most_inputs`: of a step.
    PositionsAlongLanes(const ConvolutionSpec& spec, int lanes, Needs& needs, int most_inputs, int most_single = 0, bool flips = false)
        : Base(spec), run_(spec.in_channels() * spec.joined()), taps_(spec.taps()), lanes_(lanes), most_inputs_(most_inputs), most_single_(most_single), flips_(flips) {
        const std::size_t outputs = std::min(spec.out_channels(), most_outputs);
        Needs mine = this->needs_for_positions();
        mine.positions = most_vectors * lanes_ + most_single_;
        mine.weights = static_cast<int>(outputs);
        mine.columns = most_words;
        mine.accumulators = outputs * mine.positions;
        mine.scattered = outputs * (max_vectors * lanes_ + most_following);
        needs.cover(mine);
    }

    // Lists in the sample what is open.
    virtual Open list(const Run&, Sample&) const = 0;
    virtual Outputs outputs_of(const Sample&, Pieces) const = 0;
    // Adds the products of a step to an item's sums.
    virtual void add(const Item&, const Groups&, const Step&) const = 0;
    // From sums to what is written.
    virtual void complete(const Item&, const Groups&) const = 0;

    Word* sums_of(const Item& item, const Group& group) const {
        return reinterpret_cast<Word*>(item.scratch.accumulators.data()) + static_cast<std::ptrdiff_t>(group.begin) * item.outputs;
    }
    Word* sums_of_single(const Item& item) const {
        return sums_of(item, {ceil_div(item.in_lanes(), lanes_) * lanes_, 0, 0});
    }
    // A group's sums as [position][output], in scratch memory.
    Word* by_position(const Item& item, const Group& group) const {
        const Word* const sums = sums_of(item, group);
        for (int j = 0; j < item.outputs; j++)
            item.scratch.weights[j] = reinterpret_cast<const float*>(sums + static_cast<std::ptrdiff_t>(j) * group.width);
        float* const to = item.scratch.scattered.data();
        spec_.kernels->transpose(item.scratch.weights.data(), 0, item.outputs, group.count, to, item.outputs);
        return reinterpret_cast<Word*>(to);
    }
    // Behind them: `most_following` numbers of each output.
    Word* following(const Item& item) const {
        return reinterpret_cast<Word*>(item.scratch.scattered.data()) + static_cast<std::ptrdiff_t>(max_vectors) * lanes_ * item.outputs;
    }

    // `n` inputs from `offset` on of a group's positions, as words with its positions in a row.
    const Word* transposed(const Item& item, const Group& group, std::ptrdiff_t offset, int n) const {
        const T* const* const from = item.scratch.template places<T>().rows.data() + group.begin;
        const int count = group.count, width = group.width, whole = n / in_word;
        float* const to = item.scratch.columns.data();
        for (int i = 0; i < count; i++) item.scratch.rows[i] = reinterpret_cast<const float*>(from[i] + offset);
        spec_.kernels->transpose(item.scratch.rows.data(), 0, count, whole, to, width);
        if (n % in_word)
            for (int i = 0; i < count; i++) {
                std::int32_t word = 0;
                std::memcpy(&word, from[i] + offset + whole * in_word, n % in_word * sizeof(T));
                std::memcpy(to + static_cast<std::ptrdiff_t>(whole) * width + i, &word, sizeof(word));
            }
        if (flips_)
            for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(ceil_div(n, in_word)) * width; i++)
                reinterpret_cast<std::uint32_t*>(to)[i] ^= 0x80808080u;
        return reinterpret_cast<const Word*>(to);
    }

    // Of a step, with groups of so many positions.
    int inputs_at_once(int positions) const { return std::min(most_inputs_, in_word * (most_words / positions)); }

    const int run_, taps_, lanes_;

private:
    int single_positions(int positions) const {
        const int rest = positions % lanes_;
        return positions > lanes_ && rest <= most_single_ ? rest : 0;
    }

    // Parts of the positions, blocks of the open outputs.
    struct Shares {
        int parts, blocks;
    };
    static Shares share_out(int vectors, const Open& open, int threads) {
        int parts = ceil_div(vectors, most_vectors), blocks = ceil_div(open.pieces, open.at_once);
        if (threads == 1) return {parts, blocks};
        // Where there are parts for all threads, each has whole parts; else each reads its own outputs' weights.
        if (parts >= threads) return {std::min(ceil_div(parts, threads) * threads, vectors), blocks};
        return {parts, std::min(ceil_div(blocks, threads) * threads, open.pieces)};
    }

    Groups cut(const Item& item) const {
        Groups groups;
        const int vectors = ceil_div(item.in_lanes(), lanes_);
        groups.count = ceil_div(vectors, max_vectors);
        groups.inputs = inputs_at_once(ceil_div(vectors, groups.count) * lanes_);
        for (int g = 0; g < groups.count; g++) {
            const int begin = even_part(vectors, g, groups.count) * lanes_, end = even_part(vectors, g + 1, groups.count) * lanes_;
            groups.all[g] = {begin, end - begin, std::min(item.in_lanes(), end) - begin};
        }
        return groups;
    }

    void compute(const Item& item) const {
        const Groups groups = cut(item);
        const int steps = std::max(ceil_div(item.inputs, groups.inputs), 1), total = taps_ * steps;
        const auto begin_of = [&](int step) { return step % steps * groups.inputs; };
        const auto count_of = [&](int step) { return std::min(groups.inputs, item.inputs - begin_of(step)); };
        for (int n = 0; n < total; n++)
            add(item, groups, {n / steps, begin_of(n), count_of(n), (n + 1) / steps, begin_of(n + 1), count_of(n + 1), n == 0, n + 1 == total});
        complete(item, groups);
    }

    const int most_inputs_, most_single_;
    const bool flips_;
};

}  // namespace convgate
