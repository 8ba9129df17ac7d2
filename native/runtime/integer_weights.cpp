#include "integer_weights.h"

#include <algorithm>

#include "steps.h"

namespace convgate {

IntegerWeights::IntegerWeights(const ConvolutionSpec& spec, const IntegerUse& use, Needs& needs)
    : kernels_(*spec.integers),
      spec_(spec),
      use_(use),
      row_(kernels_.row),
      groups_(spec.operation->groups),
      outs_(spec.out_channels()),
      taps_(spec.taps()),
      run_(spec.in_channels() * spec.joined()),
      cuts_(cut()) {
    const int panels = groups_ * (static_cast<int>(cuts_.size()) - 1);
    BufferOf<std::int8_t> ordered(panels * panel_size());
    numbers_ = Buffer(static_cast<std::size_t>(panels) * numbers_each * row_);
    order(ordered.data());
    weights_ = SharedBufferOf<std::int8_t>(std::move(ordered));
    int panel = 0;
    for (int g = 0; g < groups_; g++)
        for (std::size_t c = 0; c + 1 < cuts_.size(); c++, panel++) {
            number(panel, g * outs_ + cuts_[c], cuts_[c + 1] - cuts_[c]);
            blocks_.push_back(block_of(g, static_cast<int>(c)));
        }
    Needs mine;
    mine.blocks = panels;
    mine.lists = static_cast<std::size_t>(run_) * groups_ + static_cast<std::size_t>(outs_) * groups_;
    mine.sample_packed = static_cast<std::size_t>(panels) * (numbers_each + 1) * row_;
    if (spec_.masks_channels()) mine.sample_packed += panels * panel_size() / sizeof(float);
    needs.cover(mine);
}

// Of outputs that may be closed, full panels, from which any can be packed; else as `cut` has them.
std::vector<int> IntegerWeights::cut() const {
    std::vector<int> cuts{0};
    if (spec_.masks_channels()) {
        while (cuts.back() < outs_) cuts.push_back(std::min(cuts.back() + row_, outs_));
        return cuts;
    }
    const int lanes = kernels_.lanes, vectors = ceil_div(outs_, lanes);
    int blocks = ceil_div(vectors, row_ / lanes);
    // Where rows are too few to be shared out, as many blocks as can be shared out evenly.
    if (costs::shares_blocks(use_.rows, spec_.threads)) blocks = std::min(ceil_div(blocks, spec_.threads) * spec_.threads, vectors);
    for (int b = 1; b <= blocks; b++) cuts.push_back(std::min(even_part(vectors, b, blocks) * lanes, outs_));
    return cuts;
}

IntegerWeights::Numbers IntegerWeights::numbers(float* from) const {
    std::int32_t* const integers = reinterpret_cast<std::int32_t*>(from);
    return {integers, integers + row_, integers + 2 * row_, integers + 3 * row_, from + 4 * row_};
}

void IntegerWeights::order(std::int8_t* to) {
    const std::int8_t* const weights = spec_.operation->weight.bytes;
    for (int g = 0; g < groups_; g++)
        for (std::size_t c = 0; c + 1 < cuts_.size(); c++) {
            const int first = g * outs_ + cuts_[c], width = cuts_[c + 1] - cuts_[c];
            for (int t = 0; t < taps_; t++)
                for (int i = 0; i < run_; i++, to += row_)
                    for (int o = 0; o < width; o++)
                        to[kernels_.place(o)] = weights[spec_.weight_at(first + o, t, i)];
        }
}

// What goes with the sums of a panel's outputs; of a lane without one, a shift that is as usual.
void IntegerWeights::number(int panel, int first, int width) {
    const Operation& op = *spec_.operation;
    const Numbers n = numbers(numbers_.data() + static_cast<std::size_t>(panel) * numbers_each * row_);
    for (int o = 0; o < row_; o++) {
        const bool there = o < width;
        n.bias[o] = there && op.bias.integers ? op.bias.integers[first + o] : 0;
        n.multiplier[o] = there && op.multiplier.integers ? op.multiplier.integers[first + o] : 0;
        n.shift[o] = there && op.shifts.integers ? op.shifts.integers[first + o] : 17;
        n.scale[o] = there && op.scale.data ? op.scale.data[first + o] : 0;
    }
    if (!use_.excess) return (void)std::copy_n(n.bias, row_, n.start);
    Int8Product all{};
    all.tap_count = taps_, all.count = run_, all.is_signed = spec_.in->value.is_signed();
    all.weights = weights_.data() + panel * panel_size(), all.tap_stride = static_cast<std::ptrdiff_t>(run_) * row_;
    starts(kernels_, all, n.bias, n.start);
}

IntegerBlock IntegerWeights::block_of(int group, int part) const {
    IntegerBlock block;
    block.group = group;
    block.panel = group * (static_cast<int>(cuts_.size()) - 1) + part;
    block.in_begin = group * spec_.in_channels();
    block.in_channels = run_;
    block.out_begin = group * outs_ + cuts_[part];
    block.width = cuts_[part + 1] - cuts_[part];
    block.weights = weights_.data() + block.panel * panel_size();
    block.tap_stride = static_cast<std::ptrdiff_t>(run_) * row_;
    const Numbers n = numbers(numbers_.data() + static_cast<std::size_t>(block.panel) * numbers_each * row_);
    block.start = n.start, block.multiplier = n.multiplier, block.shift = n.shift, block.scale = n.scale;
    return block;
}

// Whether to pack the open channels' weights; else all lanes are computed, and some of each result are kept.
bool IntegerWeights::packing_pays(int open, int rows) const {
    return costs::packing_pays(costs::packing_bytes, open, outs_, kernels_.lanes, rows, static_cast<long long>(taps_) * run_, 0, use_.results);
}

std::span<const IntegerBlock> IntegerWeights::choose(const std::vector<std::int32_t>* in_open, const std::vector<std::int32_t>* out_open,
                                                     int rows, Sample& s) const {
    if (!in_open && !out_open) return blocks_;
    FixedVector<IntegerBlock>& chosen = s.integer_blocks;
    chosen.clear();
    s.lists.clear();
    float* to = s.packed.data();  // numbers, then packed weights
    const int ins = spec_.in_channels(), joined = spec_.joined(), parts = static_cast<int>(cuts_.size()) - 1;
    std::size_t in_at = 0, out_at = 0;
    for (int g = 0; g < groups_; g++) {
        IntegerBlock model = block_of(g, 0);
        if (in_open) {
            const std::size_t begin = in_at;
            while (in_at < in_open->size() && (*in_open)[in_at] < (g + 1) * ins) in_at++;
            model.in_begin = static_cast<int>(begin);
            model.in_channels = static_cast<int>(in_at - begin) * joined;
            model.weight_rows = s.lists.data() + s.lists.size();
            for (int tap = 0; tap < joined; tap++)
                for (std::size_t c = begin; c < in_at; c++) s.lists.push_back(tap * ins + (*in_open)[c] - g * ins);
        }
        if (!out_open) {
            for (int part = 0; part < parts; part++) {
                IntegerBlock block = block_of(g, part);
                block.in_begin = model.in_begin, block.in_channels = model.in_channels, block.weight_rows = model.weight_rows;
                chosen.push_back(block);
            }
            continue;
        }
        const std::size_t begin = out_at;
        while (out_at < out_open->size() && (*out_open)[out_at] < (g + 1) * outs_) out_at++;
        if (packing_pays(static_cast<int>(out_at - begin), rows))
            choose_packed(model, *out_open, begin, out_at, s, to);
        else
            choose_whole(model, *out_open, begin, out_at, s);
    }
    // What sums start at depends on the inputs that are read, where these have a sign.
    if (in_open && use_.excess)
        for (IntegerBlock& block : chosen) {
            const Numbers n = numbers(numbers_.data() + static_cast<std::size_t>(block.panel) * numbers_each * row_);
            std::int32_t* const start = reinterpret_cast<std::int32_t*>(to);
            to += row_;
            std::copy_n(block.columns ? block.start - row_ : n.bias, row_, start);
            block.start = start;
        }
    std::int8_t* weights = reinterpret_cast<std::int8_t*>(to);
    for (IntegerBlock& block : chosen) {
        if (!block.columns) continue;
        block.weights = weights;
        block.tap_stride = static_cast<std::ptrdiff_t>(block.in_channels) * row_;
        weights += taps_ * block.tap_stride;
    }
    return chosen;
}

// Blocks of all panels that have open channels, without packing.
void IntegerWeights::choose_whole(const IntegerBlock& model, const std::vector<std::int32_t>& open, std::size_t begin, std::size_t end, Sample& s) const {
    const int first = model.group * outs_;
    for (std::size_t j = begin; j < end;) {
        const int part = (open[j] - first) / row_;
        IntegerBlock block = block_of(model.group, part);
        block.in_begin = model.in_begin, block.in_channels = model.in_channels, block.weight_rows = model.weight_rows;
        block.kept = s.lists.data() + s.lists.size();
        block.out_begin = static_cast<int>(j);
        const int width = block.width;
        for (; j < end && (open[j] - first) / row_ == part; j++) s.lists.push_back(open[j] - first - part * row_);
        block.width = static_cast<int>(j) - block.out_begin;
        if (block.width == width) block.kept = nullptr;
        s.integer_blocks.push_back(block);
    }
}

void IntegerWeights::choose_packed(const IntegerBlock& model, const std::vector<std::int32_t>& open, std::size_t begin, std::size_t end, Sample& s, float*& to) const {
    const int first = model.group * outs_;
    const std::int32_t* columns = s.lists.data() + s.lists.size();
    for (std::size_t j = begin; j < end; j++) {
        const int o = open[j] - first;
        s.lists.push_back(static_cast<std::int32_t>(o / row_ * panel_size()) + o % row_);
    }
    const int count = static_cast<int>(end - begin), vectors = ceil_div(count, kernels_.lanes), blocks = ceil_div(vectors, row_ / kernels_.lanes);
    for (int b = 0; b < blocks; b++) {
        const int from = even_part(vectors, b, blocks) * kernels_.lanes, until = std::min(even_part(vectors, b + 1, blocks) * kernels_.lanes, count);
        IntegerBlock block = model;
        block.out_begin = static_cast<int>(begin) + from;
        block.width = until - from;
        block.columns = columns + from;
        const Numbers n = numbers(to);
        to += numbers_each * row_;
        for (int o = 0; o < row_; o++) {
            const int out = o < block.width ? open[block.out_begin + o] - first : 0, panel = model.panel + out / row_;
            const Numbers whole = numbers(numbers_.data() + static_cast<std::size_t>(panel) * numbers_each * row_);
            const int at = out % row_;
            n.bias[o] = whole.bias[at], n.start[o] = whole.start[at], n.multiplier[o] = whole.multiplier[at];
            n.shift[o] = whole.shift[at], n.scale[o] = whole.scale[at];
        }
        block.start = n.start, block.multiplier = n.multiplier, block.shift = n.shift, block.scale = n.scale;
        s.integer_blocks.push_back(block);
    }
}

void IntegerWeights::prepare(Sample& s, Team& team, const std::ptrdiff_t* taps) const {
    FixedVector<IntegerBlock>& blocks = s.integer_blocks;
    const bool packs = std::any_of(blocks.begin(), blocks.end(), [](const IntegerBlock& block) { return block.columns; });
    const int count = static_cast<int>(blocks.size());
    std::int8_t* const memory = reinterpret_cast<std::int8_t*>(s.packed.data());
    if (packs)
        team.run(count * taps_, [&](int item, int) {
            const IntegerBlock& block = blocks[item / taps_];
            if (!block.columns) return;
            const int tap = item % taps_;
            const std::int8_t* from = weights_.data() + block.panel * panel_size() + static_cast<std::size_t>(tap) * run_ * row_;
            kernels_.pack_columns(from, block.weight_rows, block.in_channels, block.columns, block.width, memory + (block.weights - memory) + tap * block.tap_stride);
        });
    for (IntegerBlock& block : blocks)
        if (block.columns) block.weight_rows = nullptr;
    const bool depends = spec_.operation->in_channels >= 0 && use_.excess;
    if (!depends) return;
    std::int32_t* const numbers = reinterpret_cast<std::int32_t*>(s.packed.data());
    team.run(count, [&](int item, int) {
        Int8Product args{};
        describe(blocks[item], taps, args);
        std::int32_t* const start = numbers + (args.start - numbers);
        starts(kernels_, args, start, start);
    });
}

void IntegerWeights::describe(const IntegerBlock& block, const std::ptrdiff_t* taps, Int8Product& args) const {
    args.taps = taps;
    args.tap_count = taps_;
    args.count = block.in_channels;
    args.is_signed = spec_.in->value.is_signed();
    args.weights = block.weights;
    args.tap_stride = block.tap_stride;
    args.weight_rows = block.weight_rows;
    args.start = block.start;
    args.width = width(block);
    args.finish = spec_.finish(block.multiplier, block.shift);
    args.scale = block.scale;
}

}  // namespace convgate
