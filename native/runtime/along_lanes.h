// What convolutions share that have closed output channels and positions along the vector's lanes: any output channel can be
// left out, and what remains needs no packing but of the open inputs of each output's weights, which lie together. Parts of
// the open positions times blocks of the open outputs are shared out among threads. Outputs lie without gaps (such values have
// no addend, layouts.cpp).
#pragma once

#include <algorithm>
#include <cstring>
#include <span>

#include "../kernels/words.h"
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

// Of maps that are stored as T; `Table`: the kernels for them.
template <typename T, typename Table>
class PositionsAlongLanes : public ConvolutionOf<T, T> {
    using Base = ConvolutionOf<T, T>;

public:
    void run(Sample& s, Team& team) const final {
        const Run run = this->begin(s);
        list_inputs(run, s);
        const int ins = static_cast<int>(s.lists.size()), open = static_cast<int>(run.out_open->size());
        const int single = single_positions(run.count), vectors = ceil_div(run.count - single, lanes_);
        const long long macs = static_cast<long long>(run.count) * taps_ * ins * open;
        const Shares shares = share_out(vectors, open, macs > costs::along_lanes_macs<T> ? team.threads() : 1);
        const int items = vectors * open > 0 ? shares.parts * shares.blocks : 0;
        const Chunks rest = this->fills(run, team);
        team.run(items + rest.items, [&](int item, int thread) {
            if (item >= items) return this->fill(run, rest.begin(item - items), rest.end(item - items));
            const int part = item % shares.parts, block = item / shares.parts;
            const int first = even_part(vectors, part, shares.parts) * lanes_;
            const bool has_single = part + 1 == shares.parts;
            const int last = has_single ? run.count : even_part(vectors, part + 1, shares.parts) * lanes_;
            const int begin = even_part(open, block, shares.blocks), end = even_part(open, block + 1, shares.blocks);
            Scratch& scratch = s.scratch[thread];
            this->point(run, scratch, first, last - first, 0, begin);
            compute({run, s.lists, scratch, last - first, has_single ? single : 0, begin, end - begin});
            this->count(s, static_cast<long long>(last - first) * taps_ * ins * (end - begin));
        });
    }

private:
    static constexpr int most_vectors = costs::vectors_at_once;
    static constexpr int most_groups = most_vectors / max_vectors;
    static_assert(most_vectors % max_vectors == 0);
    static constexpr int most_outputs = costs::outputs_at_once;
    static constexpr int most_words = costs::transposed_bytes / 4;  // of inputs at positions that are transposed at once
    static constexpr int most_following = 3;
    static constexpr int behind = 64 / sizeof(T);  // elements that are read or written behind a row

protected:
    using typename Base::Run;
    using Base::spec_;
    using Word = typename WordColumns<T>::Word;

    // What a thread computes at once: open outputs [begin, begin + outputs) at the positions that `scratch` points to, of
    // which the last `single` are computed one by one, and of a run's inputs those in `open`.
    struct Item {
        const Run& run;
        std::span<const std::int32_t> open;
        Scratch& scratch;
        int count, single, begin, outputs;

        int in_lanes() const { return count - single; }
        int output(int j) const { return (*run.out_open)[begin + j]; }
    };

    // Positions [begin, begin + count) of an item, in `width` lanes: as many vectors as a kernel computes. Their sums lie group
    // by group as [output][position], then those of single positions.
    struct Group {
        int begin, width, count;
    };
    struct Groups {
        Group all[most_groups];
        int count, vectors;
        const Group* begin() const { return all; }
        const Group* end() const { return all + count; }
    };

    // `weight(i)` is element i of the operation's weights. `most_single`: so many positions beyond whole vectors are computed
    // one by one. `flips`: kernels read bytes with their highest bit the other way round.
    template <typename Weight>
    PositionsAlongLanes(const ConvolutionSpec& spec, const Table& table, Needs& needs, Weight weight, int most_single = 0, bool flips = false)
        : Base(spec), table_(table), run_(spec.in_channels() * spec.joined()), taps_(spec.taps()), lanes_(table.lanes),
          most_single_(most_single), flips_(flips) {
        const int outs = spec_.out_channels();
        BufferOf<T> ordered(static_cast<std::size_t>(outs) * output_size() + behind);
        T* to = ordered.data();
        for (int o = 0; o < outs; o++)
            for (int t = 0; t < taps_; t++)
                for (int i = 0; i < run_; i++)
                    *to++ = weight(spec_.weight_at(o, t, i));
        weights_ = SharedBufferOf<T>(std::move(ordered));
        const std::size_t outputs = std::min(outs, most_outputs);
        Needs mine = this->needs_for_positions();
        mine.positions = most_vectors * lanes_ + most_single_;
        mine.lists = run_;
        mine.weights = 2 * static_cast<int>(outputs);
        mine.columns = most_words;
        mine.accumulators = outputs * mine.positions;
        mine.scattered = outputs * (max_vectors * lanes_ + most_following);
        mine.weights_aside = outputs * (inputs_at_once(lanes_) + behind) / in_word + behind;
        needs.cover(mine);
    }

    // Adds the products of `count` inputs of each single position, which are `offset` elements behind where it begins.
    virtual void add_single(const Item&, const T* const* weights, std::ptrdiff_t offset, int count, bool first) const = 0;
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

    // An output's weights, [tap][run].
    std::size_t output_size() const { return static_cast<std::size_t>(taps_) * run_; }
    const T* weights_of(int output) const { return weights_.data() + output * output_size(); }

private:
    static constexpr int in_word = sizeof(Word) / sizeof(T);

    static int inputs_at_once(int positions) { return in_word * (most_words / positions); }

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

    Groups cut(const Item& item) const {
        Groups groups;
        groups.vectors = ceil_div(item.in_lanes(), lanes_);
        groups.count = ceil_div(groups.vectors, max_vectors);
        for (int g = 0; g < groups.count; g++) {
            const int begin = even_part(groups.vectors, g, groups.count) * lanes_, end = even_part(groups.vectors, g + 1, groups.count) * lanes_;
            groups.all[g] = {begin, end - begin, std::min(item.in_lanes(), end) - begin};
        }
        return groups;
    }

    void compute(const Item& item) const {
        const Groups groups = cut(item);
        const int n = item.outputs, ins = static_cast<int>(item.open.size());
        const int at_once = inputs_at_once(ceil_div(groups.vectors, groups.count) * lanes_);
        // Words that lie together need not be picked.
        const bool all = ins == run_ && run_ % in_word == 0;
        const T** const weights = item.scratch.template places<T>().weights.data();
        const T** const sources = weights + n;
        for (int j = 0; j < n; j++) sources[j] = weights_of(item.output(j));
        T* const picked = reinterpret_cast<T*>(item.scratch.weights_aside.data());
        // The first weights come from memory while inputs are transposed.
        for (int i = 0; i < std::min(at_once, run_); i += behind)
            for (int j = 0; j < n; j++) __builtin_prefetch(sources[j] + i, 0, 2);
        WordColumns<T> args{};
        args.inputs = reinterpret_cast<const Word*>(item.scratch.columns.data());
        args.weights = weights;
        args.outputs = n;
        for (int t = 0; t < taps_; t++)
            for (int i = 0; i == 0 || i < ins; i += at_once) {
                const int some = std::min(at_once, ins - i), next = i + some < ins ? i + some : 0;
                const std::ptrdiff_t tap = static_cast<std::ptrdiff_t>(t) * run_, stride = at_once + behind;
                if (!all && some > 0) table_.pick(sources, tap, n, item.open.data() + i, some, picked, stride);
                for (int j = 0; j < n; j++) weights[j] = all ? sources[j] + tap + i : picked + j * stride;
                args.words = ceil_div(some, in_word);
                args.first = t == 0 && i == 0;
                args.ahead_offset = ins > 0 ? item.open[next] + (next ? tap : tap + run_) : 0;
                args.ahead_count = static_cast<int>(std::min<long long>(run_, static_cast<long long>(at_once) * run_ / std::max(ins, 1)));
                args.ahead = next || t + 1 < taps_ ? sources : nullptr;
                for (const Group& group : groups) {
                    transpose(item, group, item.run.taps[t] + i, some);
                    args.sums = sums_of(item, group);
                    table_.columns[group.width / lanes_ - 1](args);
                    args.ahead = nullptr;
                }
                if (item.single > 0) add_single(item, weights, item.run.taps[t] + i, some, args.first);
            }
        complete(item, groups);
    }

    // `n` inputs from `offset` on of a group's positions, as words with its positions in a row.
    void transpose(const Item& item, const Group& group, std::ptrdiff_t offset, int n) const {
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
    }

    const Table& table_;
    const int run_, taps_, lanes_, most_single_;
    const bool flips_;
    SharedBufferOf<T> weights_;  // [output][tap][run]
};

}  // namespace convgate
