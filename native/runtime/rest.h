// What partial sums lack: a convolution's weights in blocks of output channels, in the order in which they are read.
#pragma once

#include "convolution.h"

namespace convgate {

// Where a run of inputs begins: in that line and column of the kernel.
struct Start {
    int y, x, channel;
};

// Runs of inputs of one length.
struct Runs {
    std::vector<Start> starts;
    int length;
};

// Output channels that are computed together.
struct RestBlock {
    int begin, width, vectors;
    int unit;  // of the gate, to which all of them belong; or -1
    std::vector<Runs> runs;
    std::vector<std::ptrdiff_t> taps;  // of all runs, in elements from a position's first tap
    std::size_t weights;               // where its weights begin
    long long macs;                    // of one activation
};

// How output channels are cut: into blocks of up to `vectors` vectors of `lanes`, whose rows of weights are `row` wide, or, if
// that is 0, as wide as the block's vectors.
struct RestShape {
    int lanes, vectors, row;
};

class RestBlocks {
public:
    RestBlocks(const ConvolutionSpec&, const Gate&, RestShape);
    const std::vector<RestBlock>& all() const { return blocks_; }
    std::size_t weights() const { return weights_; }  // of all blocks
    int row(const RestBlock& block) const { return shape_.row ? shape_.row : block.vectors * shape_.lanes; }

    // Calls take(row of the block's weights, output of the block, number of the weight) for every weight that is not the
    // partial sums' own; all others are zeros.
    template <typename Take>
    void each(const RestBlock& block, Take take) const {
        const Operation& op = *spec_.operation;
        const int area = op.kernel.y * op.kernel.x, reads = ins() - own();
        int row = 0;
        for (const Runs& runs : block.runs)
            for (const Start& start : runs.starts)
                for (int i = 0; i < runs.length; i++, row++) {
                    const int tap = start.y * op.kernel.x + start.x + (start.channel + i) / ins();
                    const int channel = (start.channel + i) % ins();
                    for (int o = 0; o < block.width; o++) {
                        const int out = block.begin + o, known = out / (outs() / parts_) * own();
                        if (channel >= known && channel < known + own()) continue;
                        const int read = channel < known ? channel : channel - own();
                        take(row, o, (static_cast<std::size_t>(out) * reads + read) * area + tap);
                    }
                }
    }

private:
    int outs() const { return spec_.out->value.channels; }
    int ins() const { return spec_.in->value.channels; }
    int own() const { return parts_ > 1 ? ins() / parts_ : 0; }  // inputs that a chunk of the outputs does not read
    // Whether a unit fills a vector, so that no block need have several.
    bool within_units() const { return gate_.group >= shape_.lanes; }

    std::vector<std::pair<int, int>> segments(bool apart) const;
    void cut(int begin, int end, bool apart);
    std::vector<Start> starts(int first_x, int last_x, int channel) const;
    std::vector<Runs> all_inputs() const;
    std::vector<Runs> all_but(int begin, int n) const;

    const ConvolutionSpec spec_;
    const Gate gate_;
    const RestShape shape_;
    const int parts_;
    std::vector<RestBlock> blocks_;
    std::size_t weights_ = 0;
};

}  // namespace convgate
