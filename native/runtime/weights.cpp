#include "weights.h"

#include <algorithm>

#include "../kernels/bf16_numbers.h"
#include "steps.h"

namespace convgate {

namespace {

// Where output o stands in a row for so many vectors.
int place(const Kernels&, int o, int) { return o; }
int place(const Bf16Kernels& kernels, int o, int vectors) { return kernels.place(o, vectors); }

void keep(float& to, float value) { to = value; }
void keep(Bf16& to, float value) { to = rounded(value); }

}  // namespace

template <typename T>
BlockedWeightsOf<T>::BlockedWeightsOf(const Table& kernels, const WeightShape& shape, const Array& bias,
                               const WeightUse& use, const Source& value)
    : kernels_(kernels),
      shape_(shape),
      use_(use),
      lanes_(kernels.lanes),
      widest_(std::min(kernels.vectors, ceil_div(shape.outs, kernels.lanes)) * kernels.lanes),
      panel_(choose_panel() * kernels.lanes),
      bias_(static_cast<std::size_t>(shape.groups) * (shape.outs + panel_)) {
    if (use_.panels != Panels::none) {
        std::copy_n(bias.data, bias.size(), bias_.data());
        order_for_packing(value);
    } else {
        order_in_blocks(bias, use_.rows, value);
    }
}

// In vectors.
template <typename T>
int BlockedWeightsOf<T>::choose_panel() const {
    const int widest = widest_ / lanes_;
    return shares_blocks(use_.rows) ? costs::panel_for_threads(widest, 2, shape_.outs, lanes_, use_.threads) : widest;
}

template <typename T>
bool BlockedWeightsOf<T>::shares_blocks(int rows) const { return use_.shares_blocks && costs::shares_blocks(rows, use_.threads); }

template <typename T>
std::size_t BlockedWeightsOf<T>::panel_size() const { return static_cast<std::size_t>(shape_.taps) * shape_.run() * panel_; }
template <typename T>
std::size_t BlockedWeightsOf<T>::group_size() const { return ceil_div(shape_.outs, panel_) * panel_size(); }

// [group][panel of output channels][tap][run][panel]: any columns can be packed from here.
template <typename T>
void BlockedWeightsOf<T>::order_for_packing(const Source& value) {
    BufferOf<T> ordered(shape_.groups * group_size());
    for (int g = 0; g < shape_.groups; g++)
        for (int o = 0; o < shape_.outs; o++) {
            const int at = paired() ? 2 * (o % panel_) : place(kernels_, o % panel_, panel_ / lanes_);
            T* to = ordered.data() + g * group_size() + o / panel_ * panel_size() + at;
            const int back = paired() ? panel_ - 1 : 0;  // from where an odd row's weight would lie to behind the even one's
            for (int t = 0; t < shape_.taps; t++)
                for (int i = 0; i < shape_.run(); i++, to += panel_) keep(to[-(i % 2) * back], value(g * shape_.outs + o, t, i));
        }
    weights_ = SharedBufferOf<T>(std::move(ordered));
}

// [group][block of output channels][tap][run][lanes], ready for the kernel.
template <typename T>
void BlockedWeightsOf<T>::order_in_blocks(const Array& biases, int rows, const Source& value) {
    const int outs = shape_.outs, run = shape_.run(), padded = ceil_div(outs, lanes_) * lanes_;
    const std::vector<int> cuts = cut(outs, rows);
    BufferOf<T> ordered(static_cast<std::size_t>(shape_.groups) * padded * shape_.taps * run);
    std::vector<std::ptrdiff_t> begins;  // of each block's weights
    T* to = ordered.data();
    float* bias = bias_.data();
    for (int g = 0; g < shape_.groups; g++)
        for (std::size_t b = 0; b + 1 < cuts.size(); b++) {
            const int width = cuts[b + 1] - cuts[b], vectors = ceil_div(width, lanes_), row = vectors * lanes_;
            const int first = g * outs + cuts[b];
            blocks_.push_back({.in_begin = g * shape_.ins,
                               .in_channels = run,
                               .out_begin = first,
                               .width = width,
                               .vectors = vectors,
                               .bias = bias,
                               .group = g});
            begins.push_back(to - ordered.data());
            for (int o = 0; o < width && biases.data; o++) bias[o] = biases.data[first + o];
            bias += row;
            for (int t = 0; t < shape_.taps; t++)
                for (int i = 0; i < run; i++, to += row)
                    for (int o = 0; o < width; o++) keep(to[place(kernels_, o, vectors)], value(first + o, t, i));
        }
    weights_ = SharedBufferOf<T>(std::move(ordered));
    for (std::size_t b = 0; b < blocks_.size(); b++) blocks_[b].weights = weights_.data() + begins[b];
}

// Where `outs` output channels are cut into blocks: whole vectors, evenly, and where rows are too few to be shared out, as
// many blocks as can be shared out evenly.
template <typename T>
std::vector<int> BlockedWeightsOf<T>::cut(int outs, int rows) const {
    const int vectors = ceil_div(outs, lanes_);
    int blocks = ceil_div(vectors, kernels_.vectors);
    if (shares_blocks(rows)) blocks = std::min(ceil_div(blocks, use_.threads) * use_.threads, vectors);
    std::vector<int> cuts{0};
    for (int b = 1; b <= blocks; b++) cuts.push_back(std::min(even_part(vectors, b, blocks) * lanes_, outs));
    return cuts;
}

// Whether to pack the open channels' weights; else all lanes are computed, and some of each result are kept.
template <typename T>
bool BlockedWeightsOf<T>::packing_pays(int open, int rows) const {
    const long long length = static_cast<long long>(shape_.taps) * shape_.run();
    return use_.panels == Panels::packed && costs::packing_pays(KernelsFor<T>::packing, open, shape_.outs, lanes_, rows, length, use_.preparing, use_.results);
}

// Blocks of all panels that have open channels, without packing.
template <typename T>
void BlockedWeightsOf<T>::choose_whole(const Block& model, const std::vector<std::int32_t>& open, std::size_t begin, std::size_t end,
                                  Sample& s) const {
    const int first = model.group * shape_.outs;
    for (std::size_t j = begin; j < end;) {
        const int panel = (open[j] - first) / panel_, o = panel * panel_;
        Block block = model;
        block.out_begin = static_cast<int>(j);
        block.vectors = panel_ / lanes_;
        block.weights = weights_.data() + block.group * group_size() + panel * panel_size();
        block.bias = bias_.data() + first + o;
        block.kept = s.lists.data() + s.lists.size();
        for (; j < end && (open[j] - first) / panel_ == panel; j++, block.width++) s.lists.push_back(open[j] - first - o);
        if (block.width == std::min(panel_, shape_.outs - o)) block.kept = nullptr;
        s.blocks_of<Block>().push_back(block);
    }
}

template <typename T>
std::span<const BlockOf<T>> BlockedWeightsOf<T>::choose(const std::vector<std::int32_t>* in_open,
                                                        const std::vector<std::int32_t>* out_open, int rows, Sample& s) const {
    if (!in_open && !out_open) return blocks_;
    const int ins = shape_.ins, outs = shape_.outs;
    FixedVector<Block>& chosen = s.blocks_of<Block>();
    chosen.clear();
    s.lists.clear();
    float* to = s.packed.data();  // the blocks' biases, then their packed weights
    auto in_at = in_open ? in_open->begin() : std::vector<std::int32_t>::const_iterator();
    auto out_at = out_open ? out_open->begin() : in_at;
    std::size_t block_at = 0;
    for (int g = 0; g < shape_.groups; g++) {
        Block block{.in_begin = g * ins, .in_channels = shape_.run(), .group = g};
        if (in_open) {
            const auto begin = in_at;
            while (in_at != in_open->end() && *in_at < (g + 1) * ins) ++in_at;
            block.in_begin = static_cast<int>(begin - in_open->begin());
            block.in_channels = static_cast<int>(in_at - begin) * shape_.joined;
            block.weight_rows = s.lists.data() + s.lists.size();
            for (int tap = 0; tap < shape_.joined; tap++)
                for (auto c = begin; c != in_at; ++c) s.lists.push_back(tap * ins + *c - g * ins);
        }
        if (!out_open) {
            for (; block_at < blocks_.size() && blocks_[block_at].group == g; block_at++) {
                Block whole = blocks_[block_at];
                whole.in_begin = block.in_begin, whole.in_channels = block.in_channels, whole.weight_rows = block.weight_rows;
                chosen.push_back(whole);
            }
            continue;
        }
        const auto begin = out_at;
        while (out_at != out_open->end() && *out_at < (g + 1) * outs) ++out_at;
        const int open = static_cast<int>(out_at - begin);
        if (!packing_pays(open, rows)) {
            choose_whole(block, *out_open, begin - out_open->begin(), out_at - out_open->begin(), s);
            continue;
        }
        const std::int32_t* columns = s.lists.data() + s.lists.size();
        for (auto at = begin; at != out_at; ++at) {
            const int o = *at - g * outs;
            s.lists.push_back(static_cast<std::int32_t>(o / panel_ * panel_size() + o % panel_));
        }
        const std::vector<int>& cuts = cut(open, rows);
        for (std::size_t b = 0; b + 1 < cuts.size(); b++) {
            block.out_begin = static_cast<int>(begin - out_open->begin()) + cuts[b];
            block.width = cuts[b + 1] - cuts[b];
            block.vectors = ceil_div(block.width, lanes_);
            block.columns = columns + cuts[b];
            block.bias = to;
            for (int o = 0; o < block.width; o++) to[o] = bias_[begin[cuts[b] + o]];
            to += block.vectors * lanes_;
            chosen.push_back(block);
        }
    }
    T* weights = reinterpret_cast<T*>(to);
    if (out_open)
        for (Block& block : chosen) {
            if (!block.columns) continue;
            block.weights = weights;
            weights += static_cast<std::size_t>(shape_.taps) * block.in_channels * block.vectors * lanes_;
        }
    return chosen;
}

template <typename T>
void BlockedWeightsOf<T>::pack(Sample& s, Team& team) const {
    FixedVector<Block>& blocks = s.blocks_of<Block>();
    if (std::none_of(blocks.begin(), blocks.end(), [](const Block& block) { return block.columns; })) return;
    team.run(static_cast<int>(blocks.size()) * shape_.taps, [&](int item, int) {
        Block& block = blocks[item / shape_.taps];
        if (!block.columns) return;
        const int tap = item % shape_.taps, row = block.vectors * lanes_;
        const T* from =
            weights_.data() + block.group * group_size() + static_cast<std::size_t>(tap) * shape_.run() * panel_;
        T* const packed = reinterpret_cast<T*>(s.packed.data());
        T* to = packed + (block.weights - packed);
        kernels_.pack_columns(from, panel_, block.weight_rows, block.in_channels, block.columns, block.width,
                              to + static_cast<std::size_t>(tap) * block.in_channels * row, row);
    });
    for (Block& block : blocks)
        if (block.columns) block.weight_rows = nullptr;
}

template <typename T>
void BlockedWeightsOf<T>::pack_rows(const Block& block, int begin, int n, int open, int parts, T* to,
                               std::ptrdiff_t to_stride) const {
    const int row = block.vectors * lanes_;
    for (int part = 0; part < parts; part++) {
        const int first = part * open + begin;
        const std::int32_t* rows = block.weight_rows ? block.weight_rows + first : nullptr;
        kernels_.pack_columns(weights_.data() + (rows ? 0 : static_cast<std::ptrdiff_t>(first) * panel_), panel_, rows, n,
                              block.columns, block.width, to + part * to_stride, row);
    }
}

template <typename T>
const T* BlockedWeightsOf<T>::row(const Block& block, int part_begin, int begin) const {
    return block.weights + static_cast<std::ptrdiff_t>(part_begin + (block.weight_rows ? 0 : begin)) * block.vectors * lanes_;
}

// Of floats alone: others have kernels that fetch for themselves. Clang before 16 makes it for all that the class is made for.
template <typename T>
Ahead BlockedWeightsOf<T>::ahead(const Block& block, int n, int parts, int begin, int count, int open) const requires std::is_same_v<T, float> {
    if constexpr (!std::is_same_v<T, float>) {
        return {};
    } else {
        const int part = n % parts;
        if (!block.columns)
            return {row(block, part * shape_.ins, begin), block.vectors * lanes_, block.weight_rows ? block.weight_rows + begin : nullptr,
                    n < parts ? count : 0};
        // The open columns lie in several panels: all steps fetch the first one's rows, then the last one's.
        const std::ptrdiff_t panel = static_cast<std::ptrdiff_t>(panel_size());
        const std::ptrdiff_t at = block.columns[n < parts ? 0 : block.width - 1] / panel * panel;
        const int first = part * open + begin;
        return {weights_.data() + at + (block.weight_rows ? 0 : static_cast<std::ptrdiff_t>(first) * panel_), panel_,
                block.weight_rows ? block.weight_rows + first : nullptr, count};
    }
}

template <typename T>
std::ptrdiff_t BlockedWeightsOf<T>::tap_stride(const Block& block) const {
    return static_cast<std::ptrdiff_t>(block.columns ? block.in_channels : shape_.run()) * block.vectors * lanes_;
}

template <typename T>
void BlockedWeightsOf<T>::cover_needs(Needs& needs) const {
    Needs mine;
    mine.blocks = std::max<std::size_t>(blocks_.size(), static_cast<std::size_t>(shape_.groups) * ceil_div(shape_.outs, lanes_));
    mine.lists = static_cast<std::size_t>(shape_.run()) * shape_.groups + static_cast<std::size_t>(shape_.outs) * shape_.groups;
    if (use_.panels == Panels::packed) {
        const std::size_t lanes = static_cast<std::size_t>(shape_.outs) * shape_.groups + mine.blocks * lanes_;
        mine.sample_packed = lanes + lanes * shape_.taps * shape_.run() + panel_;
    }
    needs.cover(mine);
}

template class BlockedWeightsOf<float>;
template class BlockedWeightsOf<Bf16>;

}  // namespace convgate
