// The weights of a product in the order in which its kernel reads them, and their choice for one sample.
#pragma once

#include <functional>
#include <span>

#include "costs.h"
#include "layer.h"
#include "shared.h"

namespace convgate {

// What a product multiplies: for each group, `taps` times `ins` * `joined` inputs by `outs` output channels. With
// `joined` > 1 the inputs of as many taps lie next to each other, and count as one tap.
struct WeightShape {
    int groups, outs, taps, ins, joined;
    int run() const { return ins * joined; }
};

// Where output channels may be closed, weights lie in panels of them, and a block is what is open in a panel.
enum class Panels {
    none,    // no output can be closed: blocks of weights are ready for the kernel
    packed,  // or, where it takes less time, packed weights of what is open
    whole,
    paired,  // rows lie in pairs (Bf16Product); their number is even, and no input can be closed
};

inline Panels packed_if(bool closes) { return closes ? Panels::packed : Panels::none; }

// How they are used: by about how many rows of inputs, whether blocks are shared out where rows are few, to how many rows'
// products it comes to prepare a row of weights for each run, and how many results a row of inputs has.
struct WeightUse {
    int rows;
    bool shares_blocks;
    Panels panels;
    int preparing, results, threads;
};

// The kernels for what is stored as T.
template <typename T>
struct KernelsFor {
    using Table = Kernels;
    static constexpr costs::Packing packing = costs::packing_floats;
};
template <>
struct KernelsFor<Bf16> {
    using Table = Bf16Kernels;
    static constexpr costs::Packing packing = costs::packing_halves;
};

template <typename T>
class BlockedWeightsOf {
public:
    using Table = typename KernelsFor<T>::Table;
    using Block = BlockOf<T>;

    // The weight of an output channel, of all groups', for the i-th input of a tap.
    using Source = std::function<float(int out, int tap, int i)>;

    // `bias` may be empty.
    BlockedWeightsOf(const Table&, const WeightShape&, const Array& bias, const WeightUse&, const Source&);

    // The blocks for the open channels (null: all) and that many rows of inputs. They last until the sample's next call.
    // Where it takes less time than to pack weights, blocks compute all their lanes, of which some are kept.
    std::span<const Block> choose(const std::vector<std::int32_t>* in_open, const std::vector<std::int32_t>* out_open,
                                  int rows, Sample&) const;
    // After `choose`: the weights of the blocks that are to be packed.
    void pack(Sample&, Team&) const;
    // Or a part of them when it is needed, of one group's first tap: for each of `parts` equal parts of the `open` inputs'
    // rows, `n` rows from `begin` on.
    void pack_rows(const Block&, int begin, int n, int open, int parts, T* to, std::ptrdiff_t to_stride) const;
    // The first of a block's weights of a row, if nothing is listed; of all rows, if it is.
    const T* row(const Block&, int part_begin, int begin) const;
    // For the n-th of `parts` steps: rows of `part` n as `pack_rows` or a product will read them later.
    Ahead ahead(const Block&, int n, int parts, int begin, int count, int open) const requires std::is_same_v<T, float>;
    // From one tap's weights to the next's.
    std::ptrdiff_t tap_stride(const Block&) const;
    bool paired() const { return use_.panels == Panels::paired; }
    int widest() const { return widest_; }  // block, in lanes
    void cover_needs(Needs&) const;

private:
    void order_for_packing(const Source&);
    void order_in_blocks(const Array& bias, int rows, const Source&);
    int choose_panel() const;
    bool shares_blocks(int rows) const;
    std::vector<int> cut(int outs, int rows) const;
    bool packing_pays(int open, int rows) const;
    void choose_whole(const Block&, const std::vector<std::int32_t>& open, std::size_t begin, std::size_t end, Sample&) const;
    std::size_t panel_size() const;
    std::size_t group_size() const;

    const Table& kernels_;
    const WeightShape shape_;
    const WeightUse use_;
    const int lanes_, widest_, panel_;
    SharedBufferOf<T> weights_;
    Buffer bias_;
    std::vector<Block> blocks_;
};

using BlockedWeights = BlockedWeightsOf<float>;

}  // namespace convgate
