// The weights of a product of integers in panels of output channels, and their choice for one sample, as weights.h's.
#pragma once

#include <span>

#include "convolution.h"
#include "shared.h"

namespace convgate {

// How they are used: by about how many rows of inputs, how many results each of these has for an output, and by how much larger
// inputs are read than they are.
struct IntegerUse {
    int rows, results, excess;
};

class IntegerWeights {
public:
    IntegerWeights(const ConvolutionSpec&, const IntegerUse&, Needs&);

    // The blocks for the open channels (null: all) and that many rows of inputs. They last until the sample's next call. Where it
    // takes less time than to pack weights, blocks compute all their lanes, of which some are kept.
    std::span<const IntegerBlock> choose(const std::vector<std::int32_t>* in_open, const std::vector<std::int32_t>* out_open,
                                         int rows, Sample&) const;
    // After `choose`, where it was given open channels: the weights of blocks that are to be packed, and what sums start at.
    void prepare(Sample&, Team&, const std::ptrdiff_t* taps) const;
    // Of a kernel's arguments what a block says.
    void describe(const IntegerBlock&, const std::ptrdiff_t* taps, Int8Product&) const;
    // How many of a row's lanes hold what is written, or what lies between.
    static int width(const IntegerBlock& block) { return block.kept ? block.kept[block.width - 1] + 1 : block.width; }

private:
    // Numbers of each output of a panel or block.
    struct Numbers {
        std::int32_t *bias, *start, *multiplier, *shift;
        float* scale;
    };
    static constexpr int numbers_each = 5;
    Numbers numbers(float* from) const;

    void order(std::int8_t* to);
    void number(int panel, int first, int width);
    IntegerBlock block_of(int group, int part) const;
    std::vector<int> cut() const;
    bool packing_pays(int open, int rows) const;
    std::size_t panel_size() const { return static_cast<std::size_t>(taps_) * run_ * row_; }
    void choose_whole(const IntegerBlock&, const std::vector<std::int32_t>& open, std::size_t begin, std::size_t end, Sample&) const;
    void choose_packed(const IntegerBlock&, const std::vector<std::int32_t>& open, std::size_t begin, std::size_t end, Sample&, float*& to) const;

    const Int8Kernels& kernels_;
    const ConvolutionSpec spec_;
    const IntegerUse use_;
    const int row_, groups_, outs_, taps_, run_;
    const std::vector<int> cuts_;  // of a group's outputs into panels
    SharedBufferOf<std::int8_t> weights_;  // [group][panel][tap][run][row]
    Buffer numbers_;                 // [group][panel][numbers_each][row]
    std::vector<IntegerBlock> blocks_;
};

}  // namespace convgate
