// The weights of a product in the order in which its kernel reads them, and their choice for one sample.
#pragma once

#include <functional>

#include "layer.h"

namespace convgate {

// What a product multiplies: for each group, `taps` times `ins` * `joined` inputs by `outs` output channels. With
// `joined` > 1 the inputs of as many taps lie next to each other, and count as one tap.
struct WeightShape {
    int groups, outs, taps, ins, joined;
    int run() const { return ins * joined; }
};

class BlockedWeights {
public:
    // value(out, tap, i): the weight of an output channel, of all groups', for the i-th input of a tap. `bias` may be empty.
    // `rows`: about how many rows of inputs there are. `packs`: output channels may be closed.
    BlockedWeights(const Kernels&, const WeightShape&, const Array& bias, int rows, bool packs, int threads,
                   const std::function<float(int out, int tap, int i)>& value);

    // The blocks for the open channels (null: all) and that many rows of inputs. They last until the sample's next call.
    const std::vector<Block>& choose(const std::vector<std::int32_t>* in_open, const std::vector<std::int32_t>* out_open,
                                     int rows, Sample&) const;
    // After `choose` with closed output channels: the weights of the open ones are packed.
    void pack(Sample&, Team&) const;
    // Or a part of them when it is needed, of one group's first tap: for each of `parts` equal parts of the `open` inputs'
    // rows, `n` rows from `begin` on.
    void pack_rows(const Block&, int begin, int n, int open, int parts, float* to, std::ptrdiff_t to_stride) const;
    // The first of a block's weights of a row, if nothing is listed; of all rows, if it is.
    const float* row(const Block&, int part_begin, int begin) const;
    // For the n-th of `parts` steps: rows of `part` n as `pack_rows` or a product will read them later.
    Ahead ahead(const Block&, int n, int parts, int begin, int count, int open) const;
    // Floats from one tap's weights to the next's.
    std::ptrdiff_t tap_stride(const Block&) const;
    int widest() const { return panel_; }  // block, in lanes
    void cover_needs(Needs&) const;

private:
    using Source = std::function<float(int out, int tap, int i)>;
    void order_for_packing(const Source&);
    void order_in_blocks(const Array& bias, int rows, const Source&);
    std::vector<int> cut(int outs, int rows) const;
    std::size_t panel_size() const;
    std::size_t group_size() const;

    const Kernels& kernels_;
    const WeightShape shape_;
    const bool packs_;
    const int threads_, lanes_, panel_;
    Buffer weights_, bias_;
    std::vector<Block> blocks_;
};

}  // namespace convgate
