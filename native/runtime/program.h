// A program as the runtime takes it: `convgate.engine.program` with names resolved to numbers.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "../kernels/bf16.h"
#include "../kernels/int8.h"

namespace convgate {

// What a value is stored as.
enum class Storage { f32, bf16, s8, u8, s32 };
constexpr bool integral(Storage storage) { return storage == Storage::s8 || storage == Storage::u8; }
// Partial sums of integers; nothing else is stored so.
constexpr bool summed(Storage storage) { return storage == Storage::s32; }

// Integers stand for themselves times `scale`.
struct Value {
    int channels, height, width;
    Storage storage = Storage::f32;
    double scale = 1;
    bool is_signed() const { return storage == Storage::s8; }
    int positions() const { return height * width; }
};

enum class GateKind { spatial, channel, activation };

// Its mask is [units][rows][columns], of which the first is 1 for a spatial gate, the others for a channel gate.
struct Gate {
    GateKind kind;
    int units, rows, columns, group;
    bool spatial() const { return kind == GateKind::spatial; }
    bool by_activation() const { return kind == GateKind::activation; }
    int positions() const { return rows * columns; }
    std::size_t size() const { return static_cast<std::size_t>(units) * positions(); }
};

// Borrowed data: float32, bfloat16 or int8 for weights of a convolution that computes in it, int32 for what goes with these.
struct Array {
    const float* data = nullptr;
    std::vector<std::size_t> shape;
    const Bf16* halves = nullptr;
    const std::int8_t* bytes = nullptr;
    const std::int32_t* integers = nullptr;
    bool there() const { return data || halves || bytes || integers; }
    void drop() { data = nullptr, halves = nullptr, bytes = nullptr, integers = nullptr; }
    // Of what was dropped, too: layers decide by how large it was.
    std::size_t size() const {
        std::size_t n = there() || !shape.empty() ? 1 : 0;
        for (std::size_t extent : shape) n *= extent;
        return n;
    }
};

struct Pair {
    int y = 1, x = 1;
    bool operator==(const Pair&) const = default;
};
constexpr Pair no_reach{0, 0};

enum class Kind {
    conv, pool, pool_to_grid, activate, affine, add, multiply, concat, slice, decide, mask, complete, pick,
    prelu, arithmetic, constant, interpolate, conv_transpose, pad, pixel_shuffle, pixel_unshuffle, reshape, group_norm,
    layer_norm, softmax, over_channels, quantize, dequantize, lookup, fill_closed
};
constexpr int kind_count = static_cast<int>(Kind::fill_closed) + 1;

enum class PaddingMode { constant, reflect, replicate, circular };
enum class Interpolation { nearest, nearest_exact, bilinear };

struct Operation {
    Kind kind;
    std::vector<int> inputs;  // values
    int output;               // a value; a gate for `decide`
    Function activation;
    Array weight, bias;  // conv; affine: scale and shift; decide: the offset, prelu: the slopes, constant: the data, lookup: the
                         // table, as weight
    Array scale, shift, open_scale, open_shift;  // complete; the first two: decide
    Pair stride, dilation, kernel;
    int top = 0, left = 0;  // padding (below and to the right it follows from the output's size)
    int groups = 1;  // complete: parts
    int positions = -1, in_channels = -1, out_channels = -1;  // gates, or -1
    Pair reach = no_reach;  // conv, mask: by how much the mask of tiles is dilated
    int layer = -1;
    bool maximum = false /* pools, over_channels */, count_padding = true;
    int bottom = 0, right = 0;  // padding that counts in an average
    int begin = 0;
    int gate = -1;  // mask, complete, fill_closed
    bool gate_is_spatial = false;
    bool strict = false;        // decide
    std::vector<int> channels;  // pick
    Arithmetic arithmetic = Arithmetic::divide;
    Interpolation interpolation = Interpolation::nearest;
    bool align_corners = false;
    PaddingMode padding_mode = PaddingMode::constant;
    float fill = 0;     // pad: the constant
    float epsilon = 0;  // norms
    int factor = 1;     // pixel_shuffle, pixel_unshuffle
    double scale_y = 0, scale_x = 0;  // interpolate: from input to output; or 0: the ratio of the sizes
    // Of integers. conv: how sums are brought to the output's scale, as int32 [out]; or, to float32, `scale`.
    Array multiplier, shifts;  // complete, where it is closed; with `bias`
    Array open_bias, open_multiplier, open_shifts;  // complete of integers, where it is open
    Rescale rescale[2];     // add: of both inputs; conv, complete: the second is that of what is added
    int low = 0, high = 0;  // add, conv, complete: what results are clamped to
};

struct Program {
    std::vector<Value> values;
    std::vector<Gate> gates;
    std::vector<Operation> operations;
    std::vector<int> inputs, outputs;
    int layers = 0;
};

// What an operation computes on and with: what it reads of its first input is stored so, and what it writes. Weights, other
// maps, sums: what it reads is rounded to `in` (maps that are added to a convolution's results, to `out`), sums are float32. Integers are read as they are stored.
struct Form {
    Storage in, out;
    bool operator==(const Form&) const = default;
};
Form form_of(const Program&, const Operation&);

// Throws std::invalid_argument, with the operation's number, for anything that would read or write out of bounds.
void check(const Program&);

}  // namespace convgate
