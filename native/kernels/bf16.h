// Kernels for what is stored as bfloat16, as one table beside that for float32 (table.h). Sums, biases and what happens to
// them before they are stored are float32; only what a kernel writes as Bf16 is rounded, to nearest, ties to even.
#pragma once

#include "table.h"

namespace convgate {

// The upper half of a float: 8 bits of exponent, 7 of mantissa. NaN stays NaN when it is rounded.
struct Bf16 {
    std::uint16_t bits;
};

// As table.h's.
struct Bf16Ahead {
    const Bf16* weights;
    std::ptrdiff_t stride;
    const std::int32_t* rows;
    int count;
};

// As table.h's, with results in [least, most] (infinite where there is no bound); NaN stays NaN. Rows of weights lie as
// `place` says, or, where `paired`, in pairs: the weights of both for an output, then those for the next one. What is to be
// computed on the sums otherwise takes them from the accumulators of a call that is not the last.
struct Bf16Product {
    const Bf16* const* rows;
    int positions;
    const std::ptrdiff_t* taps;
    int tap_count;
    int begin, end;  // begin: even
    const Bf16* weights;
    std::ptrdiff_t tap_stride;
    const std::int32_t* weight_rows;
    bool paired;  // where there is `pair_rows` (below); no row is listed, and `end` is even, too
    Bf16Ahead ahead;
    std::ptrdiff_t ahead_tap;
    bool first, last;
    float* accumulators;
    const float* bias;
    const Bf16* const* addends;
    Bf16* const* outputs;
    int width;
    float least, most;
};

// out[p][c] = sum over taps t of rows[p][taps[t] + c] * weights[t * channels + c] + bias[c] + addends[p][c], in [least, most].
// Weights are floats, which hold what rounding left of them.
template <typename Out>
struct Bf16Depthwise {
    const Bf16* const* rows;
    const std::ptrdiff_t* taps;
    int tap_count;
    int channels;
    const float* weights;
    const float* bias;
    const Out* const* addends;  // or null
    Out* const* outputs;
    float least, most;
    Sliding sliding = {};
};

// As table.h's.
template <typename Out>
struct Bf16Windows {
    int windows;
    const Bf16* from;
    std::ptrdiff_t from_step, to_step;
    int count_y, count_x;
    std::ptrdiff_t step_y, step_x;
    int channels;
    Out* to;
    bool maximum;
    float factor;
};

// Results in [least, most]; NaN stays NaN.
struct Bf16Bounds {
    float least, most;
};
using Bf16Squares = SquaresOf<Bf16, Bf16Bounds>;

struct Bf16Kernels {
    const char* name;
    // Of the same processors: what a network computes in float32. Where there are `patches` they have as many lanes, and blocks
    // of as many vectors.
    const Kernels* floats;
    int lanes;
    int vectors;
    int tile[max_vectors];
    void (*product[max_vectors][max_tile])(const Bf16Product&, int position);
    // Where output o stands in a row of weights for a product of so many vectors.
    int (*place)(int o, int vectors);
    // As table.h's, between rows that lie so: columns are given as if outputs stood in order, in panels of `from_stride`, of
    // which each begins at a multiple of `from_stride`; rows of `to` are for to_stride / lanes vectors.
    void (*pack_columns)(const Bf16* from, std::ptrdiff_t from_stride, const std::int32_t* rows_list, int rows,
                         const std::int32_t* columns, int n, Bf16* to, std::ptrdiff_t to_stride);
    // As table.h's, of what lies in words of two, inputs of a position and weights of an output; no row is listed. Null where
    // `product` serves better.
    void (*columns[max_vectors])(const Columns&);
    // Rows of weights as such words: to[k * vectors * lanes + o] = the weights of output o, o < vectors * lanes, of two rows; a row
    // that is the last by itself is followed by zeros. Row r is at weights + (rows_list ? rows_list[r] : r) * vectors * lanes.
    void (*pair_rows[max_vectors])(const Bf16* weights, const std::int32_t* rows_list, int rows, float* to);
    void (*depthwise)(const Bf16Depthwise<Bf16>&, int positions);
    void (*depthwise_to_float)(const Bf16Depthwise<float>&, int positions);
    void (*windows)(const Bf16Windows<Bf16>&);
    void (*windows_to_float)(const Bf16Windows<float>&);
    void (*widen)(float* to, const Bf16* from, std::ptrdiff_t n);
    void (*narrow)(Bf16* to, const float* from, std::ptrdiff_t n);
    // Winograd's, with float32's `element` between them; null where `product` serves better, as where an instruction multiplies pairs.
    // Infinities, and sums beyond a float's range, may become NaN on the way, as in float32.
    void (*patches)(const PatchesOf<Bf16>&) = nullptr;
    void (*element_weights)(const ElementWeightsOf<Bf16>&) = nullptr;
    void (*squares)(const Bf16Squares&) = nullptr;
};

// As table.h's; "avx512bf16" has the instruction for it, the others compute on what they widen.
const Bf16Kernels* find_bf16_kernels(const char* name);
const char* const* available_bf16_kernels();

}  // namespace convgate
