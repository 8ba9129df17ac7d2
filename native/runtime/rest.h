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
    std::vector<std::ptrdiff_t> taps;  // of all runs, in floats from a position's first tap
    std::size_t weights;               // in RestWeights::data
    long long macs;                    // of one activation
};

class RestWeights {
public:
    RestWeights(const ConvolutionSpec&, const Gate&);
    const std::vector<RestBlock>& blocks() const { return blocks_; }
    const float* data(const RestBlock& block) const { return weights_.data() + block.weights; }

private:
    int outs() const { return spec_.out->value.channels; }
    int ins() const { return spec_.in->value.channels; }
    int lanes() const { return spec_.kernels->lanes; }
    int own() const { return parts_ > 1 ? ins() / parts_ : 0; }  // inputs that a chunk of the outputs does not read
    // Whether a unit fills a vector, so that no block need have several.
    bool within_units() const { return gate_.group >= lanes(); }

    std::vector<std::pair<int, int>> segments(bool apart) const;
    int vectors(bool apart) const;
    void cut(int begin, int end, bool apart);
    std::vector<Start> starts(int first_x, int last_x, int channel) const;
    std::vector<Runs> all_inputs() const;
    std::vector<Runs> all_but(int begin, int n) const;
    void fill(const RestBlock&);

    const ConvolutionSpec spec_;
    const Gate gate_;
    const int parts_;
    std::vector<RestBlock> blocks_;
    std::size_t floats_ = 0;
    Buffer weights_;
};

}  // namespace convgate
