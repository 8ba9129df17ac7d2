// What the kinds of convolution share: which positions they compute, from where, to where.
#pragma once

#include <memory>

#include "layer.h"

namespace convgate {

// A convolution with everything about it that is known before a sample comes.
struct ConvolutionSpec {
    const Kernels* kernels = nullptr;
    const Bf16Kernels* halves = nullptr;   // of layers that read bfloat16
    const Int8Kernels* integers = nullptr;  // of layers that read integers
    const Operation* operation = nullptr;
    const Layout* in = nullptr;
    const Layout* out = nullptr;
    const Layout* addend = nullptr;
    bool in_place = false;        // the addend's memory is the output's
    bool addend_is_done = false;  // what the addend holds would not change by the activation
    int positions_use = -1, in_use = -1, out_use = -1;  // spreads of the operation's gates
    int squares_use = -1;  // of the gate of positions over squares of 2x2 outputs, if it closes none in part
    int threads = 1;

    // Those for maps that are stored as T.
    template <typename T>
    const auto& kernels_for() const {
        if constexpr (std::is_same_v<T, float>) return *kernels;
        else if constexpr (std::is_same_v<T, Bf16>) return *halves;
        else return *integers;
    }
    int in_channels() const { return in->value.channels / operation->groups; }
    int out_channels() const { return out->value.channels / operation->groups; }
    Activation activation() const { return operation->activation.inside(); }
    bool masks_channels() const { return operation->out_channels >= 0; }
    bool scatters() const { return masks_channels() && !out->compact(); }
    // Channels that are convolved each by itself, wherever they lie.
    bool depthwise() const {
        const int ins = in->value.channels, groups = operation->groups;
        const bool same_gates = operation->in_channels < 0 || operation->in_channels == operation->out_channels;
        return groups > 1 && groups == ins && ins == out->value.channels && same_gates;
    }
    // The taps of a line are next to each other in memory, with all their channels: one run.
    bool joins_taps() const { return operation->groups == 1 && operation->dilation.x == 1; }
    int joined() const { return joins_taps() ? operation->kernel.x : 1; }
    int taps() const { return operation->kernel.y * operation->kernel.x / joined(); }
    // Where the operation holds an output's weight for element i of a tap's run, whose channels are innermost.
    std::size_t weight_at(int out, int tap, int i) const {
        const int ins = in_channels(), area = operation->kernel.y * operation->kernel.x;
        return (static_cast<std::size_t>(out) * ins + i % ins) * area + tap * joined() + i / ins;
    }
    // Of integers: how the results of a block become what is written.
    Int8Finish finish(const std::int32_t* multiplier, const std::int32_t* shift) const {
        return {multiplier, shift, operation->rescale[1], addend && addend->value.is_signed(), operation->low, operation->high};
    }
};

// Of maps that are read as In, and added and written as Out.
template <typename In, typename Out>
class ConvolutionOf : public Layer {
protected:
    using Input = In;
    static constexpr int chunk = costs::positions_at_once;

    explicit ConvolutionOf(const ConvolutionSpec& spec);

    // One run's tensors and open positions.
    struct Run {
        ViewOf<In> in;
        ViewOf<Out> out, addend;
        const std::int32_t* positions;  // the open ones, or null: all
        int count;
        const std::vector<std::int32_t>* closed;  // positions to be filled, or null
        const std::vector<std::int32_t>*in_open, *out_open;  // open channels, or null: all
        const std::ptrdiff_t* taps;  // in elements, from the first tap
    };
    Run begin(Sample&) const;
    // How many there will be.
    int open_positions(const Sample&) const;
    // Pointers for positions [first, first + count) of the run, from an input and an output channel on.
    void point(const Run&, Scratch&, int first, int count, int in_begin, int out_begin) const;
    // What closed positions hold: the addend, or zeros.
    void fill(const Run&, int begin, int end) const;
    Chunks fills(const Run&, const Team&) const;
    // Before a scatter: what closed channels hold, at all open positions.
    void prepare_scatter(const Run&, Team&) const;
    void count(Sample&, long long macs) const;
    Needs needs_for_positions() const;
    int position(const Run& run, int i) const { return run.positions ? run.positions[i] : i; }
    // A row of sums, in place; of layers on float maps, those activations only that any kernel computes.
    void activate(float* row, int n) const;

    ConvolutionSpec spec_;
    std::vector<std::int32_t> in_at_, out_at_, addend_at_;  // per output position, the place of its first tap, of itself

private:
    void fill_line(const Run&, int position, int positions) const;
    template <typename At>
    void fill_lines(const Run&, int begin, int end, At at) const;
};

class Convolution : public ConvolutionOf<float, float> {
protected:
    using ConvolutionOf::ConvolutionOf;
    // Rows of results in scratch memory, each `stride` floats behind the one before: of the open outputs from out_begin on, to
    // which `bias` is still to be added, or null.
    struct Rows {
        float* from;
        int stride, out_begin, width;
        const float* bias = nullptr;
    };
    // scratch.kept: places for such rows.
    void point_aside(Scratch&, int count, int stride) const;
    // Of each row there the block's kept lanes, as rows behind them.
    Rows keep(Scratch&, const Block&, int count, int stride) const;
    // What kernels leave: bias, addend and activation; to where `point` said, or to single channels. Changes the rows.
    void finish(const Run&, const Scratch&, const Rows&, int first, int count) const;

private:
    void scatter(const Run&, float* row, int width, int position, const std::int32_t* channels) const;
};

std::unique_ptr<Layer> make_product(const ConvolutionSpec&, Needs&);
// In bfloat16; `results`: what the output is stored as.
std::unique_ptr<Layer> make_bf16_product(const ConvolutionSpec&, Storage results, Needs&);
// Whether it serves better.
bool suits_bf16_columns(const ConvolutionSpec&);
std::unique_ptr<Layer> make_bf16_columns(const ConvolutionSpec&, Needs&);
// Of integers, whose sums are stored as integers or float32.
std::unique_ptr<Layer> make_integer_product(const ConvolutionSpec&, Storage results, Needs&);
// Whether it serves better.
bool suits_integer_columns(const ConvolutionSpec&);
std::unique_ptr<Layer> make_integer_columns(const ConvolutionSpec&, Needs&);
// As suits_winograd, where the kernels have it.
bool suits_integer_winograd(const ConvolutionSpec&);
std::unique_ptr<Layer> make_integer_winograd(const ConvolutionSpec&, std::unique_ptr<Layer> other, Needs&);
std::unique_ptr<Layer> make_integer_depthwise(const ConvolutionSpec&, Storage results, Needs&);
// Whether there can be, and whether it pays if all positions are open.
bool suits_winograd(const ConvolutionSpec&);
// `other` computes where too few positions of too many squares are open; null if no square is closed in part.
std::unique_ptr<Layer> make_winograd(const ConvolutionSpec&, std::unique_ptr<Layer> other, Needs&);
// Of maps in bfloat16, where the kernels have it.
bool suits_bf16_winograd(const ConvolutionSpec&);
std::unique_ptr<Layer> make_bf16_winograd(const ConvolutionSpec&, std::unique_ptr<Layer> other, Needs&);
// With squares along the lanes, of what suits Winograd.
bool suits_winograd_columns(const ConvolutionSpec&);
std::unique_ptr<Layer> make_winograd_columns(const ConvolutionSpec&, std::unique_ptr<Layer> other, Needs&);
// Of closed output channels at few positions.
bool suits_columns(const ConvolutionSpec&);
std::unique_ptr<Layer> make_columns(const ConvolutionSpec&, Needs&);
std::unique_ptr<Layer> make_dot(const ConvolutionSpec&, Needs&);
// Whether it is computed so, and its input needs no border for it.
bool computes_taps_apart(const Program&, const Operation&);
std::unique_ptr<Layer> make_taps_apart(const ConvolutionSpec&, Needs&);
std::unique_ptr<Layer> make_depthwise(const ConvolutionSpec&, Form, Needs&);
// `sums` are completed where that activation gate is open.
std::unique_ptr<Layer> make_completion(const ConvolutionSpec&, const Layout& sums, const Gate&, Needs&);

// The same of integers: sums are int32, all else bytes.
std::unique_ptr<Layer> make_integer_completion(const ConvolutionSpec&, const Layout& sums, const Gate&, Needs&);

}  // namespace convgate
