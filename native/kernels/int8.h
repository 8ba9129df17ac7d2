// Kernels for 8-bit integers, as one table beside those for floats. What they compute is defined to the bit by
// `convgate.engine.integer` (Python): sums are int32 and exact in whatever order, for no sum of a program that was checked
// leaves an int32; then sums are brought to the scale of what is written, (sum * multiplier + 2^(shift - 1)) >> shift, an
// addend likewise, and their sum is clamped. Maps are bytes, with a sign or without.
#pragma once

#include "table.h"

namespace convgate {

// From one scale to another: a multiplier of 15 bits and a shift of 1 to 46.
struct Rescale {
    std::int32_t multiplier = 0, shift = 1;
    bool same() const { return shift <= 15 && multiplier == 1 << shift; }  // every integer stays as it is
};

// How sums become what is written. Arrays hold an entry for each output of a panel (Int8Kernels::row), or channel.
struct Int8Finish {
    const std::int32_t *multiplier, *shift;
    Rescale addend;
    bool addend_signed;
    std::int32_t low, high;  // within 8 bits, with or without a sign
};

// A product of inputs and a panel of weights, output channels along the lanes:
//   sum[p][o] = start[o] + sum over taps t, i < count of rows[p][taps[t] + i] * weights[t][row(i)][o]
// for `width` <= row outputs o. Inputs have a sign or not, weights have one. Which of a position's inputs meet which rows
// of weights is free: closed inputs need neither be stored nor read.
struct Int8Product {
    const std::uint8_t* const* rows;  // per position, the address of what its first tap reads
    int positions;
    const std::ptrdiff_t* taps;
    int tap_count;
    int count;                        // inputs at each tap
    bool is_signed;
    const std::int8_t* weights;       // row (t, r) is at t * tap_stride + r * row, outputs as `place` says
    std::ptrdiff_t tap_stride;
    const std::int32_t* weight_rows;  // row(i), or null: i
    const std::int32_t* start;        // [row]: see `starts`
    int width;
    Int8Finish finish;
    const std::uint8_t* const* addends;  // per position, or null
    std::uint8_t* const* outputs;        // per position; or null, where sums become floats:
    float* const* floats;                // per position: float(sum) * scale[o]
    const float* scale;                  // [row]
    std::int32_t* const* sums;           // or null; per position: the sums themselves, instead of either
    bool adds;                           // to what `sums` hold
};

// Positions along the lanes, of inputs and weights in words of four: sums[o][p] (begun at 0 if `first`) += sum over words k of the
// inputs of inputs[k][p], each times its weight of weights[o][k]. Inputs have no sign (what is read as if it were larger, see
// `excess` below, is so already), weights have.
struct Int8Columns {
    const std::int32_t* inputs;  // [words][positions]
    int words;
    const std::uint8_t* const* weights;  // per output, [words]
    int outputs;
    bool first;
    std::int32_t* sums;  // [outputs][positions]
    // Fetched meanwhile, or null: per output, what is read later.
    const std::uint8_t* const* ahead;
    std::ptrdiff_t ahead_offset;
    int ahead_count;
};

// The same products of single positions, whose inputs lie together: sums[p][o] (begun at 0 if `first`) += sum over
// i < count of rows[p][offset + i] times weights[o][i].
struct Int8Dots {
    const std::uint8_t* const* rows;     // per position
    int positions;
    std::ptrdiff_t offset;
    int count;
    bool is_signed;
    const std::uint8_t* const* weights;  // per output: bytes with a sign
    int outputs;
    bool first;
    std::int32_t* sums;                  // [positions][outputs]
};

// Rows of a product's sums, which begun at 0, to what is written of them.
struct Int8Rows {
    const std::int32_t* const* sums;     // per position
    int positions;
    const std::int32_t* start;           // [width]: added to them
    int width;
    Int8Finish finish;                   // arrays [width]; nothing is added
    std::uint8_t* const* outputs;
};

// Depthwise: sum[p][c] = start[c] + sum over taps t of rows[p][taps[t] + c] * weight(t, c)
struct Int8Depthwise {
    const std::uint8_t* const* rows;
    const std::ptrdiff_t* taps;
    int tap_count;
    Sliding sliding;  // of a 3x3 kernel taps are twelve: those of each column, the last of them again with weights of 0
    int channels;
    bool is_signed;
    const std::int32_t* weights;  // [taps / 4, rounded up][channels]: four taps' weights in the bytes of each, zeros at the end
    const std::int32_t* start;    // [channels]
    Int8Finish finish;            // arrays [channels]
    const std::uint8_t* const* addends;
    std::uint8_t* const* outputs;  // or null, and
    float* const* floats;
    const float* scale;            // [channels]
};

// As table.h's: the maximum, as bytes, or `factor` times the exact sum, of at most 2^23 rows, as floats.
template <typename Out>
struct Int8Windows {
    int windows;
    const std::uint8_t* from;
    std::ptrdiff_t from_step, to_step;
    int count_y, count_x;
    std::ptrdiff_t step_y, step_x;
    int channels;
    Out* to;
    bool maximum;
    float factor;
    bool is_signed = false;
};

// What completes partial sums: clamp(brought(sum + bias) + brought(addend)), with the rest of the sum where it is open.
// Multipliers may be negative.
struct Int8Completion {
    const std::int32_t* const* sums;  // per position
    const std::int32_t* rest;         // of position p at rest + p * rest_stride; or null: nothing is open
    std::ptrdiff_t rest_stride;
    const std::uint8_t* const* open;  // per position, 1 or 0 for each output; or null: all are
    struct Following {
        const std::int32_t *bias, *multiplier, *shift;  // [width]
    } closed, opened;
    Rescale addend;
    bool addend_signed;
    std::int32_t low, high;
    const std::uint8_t* const* addends;  // per position, or null
    std::uint8_t* const* outputs;
    int width;
};

// to[i] = clamp(brought(a[i * a.step]) + brought(b[i * b.step])); steps are 0 or 1.
struct Int8Sum {
    struct Term {
        const std::uint8_t* from;  // or null: zeros
        int step;
        bool is_signed;
        Rescale rescale;
    } a, b;
    std::int32_t low, high;
};

// Winograd's F(2x2, 3x3), as table.h's, in integers of 16 bits, which are exact: of weights four times G w G^T, so that there are
// no halves. What comes out is four times the sums. It is added up modulo 2^32, and so is right where four times the sums fit.
// Transformed inputs lie in blocks of twice the lanes, [16][blocks][room][2 * lanes], rows of transformed weights with
// outputs as unpacking a row's bytes leaves them; of `width` <= 2 * lanes outputs, their second half is neither written nor read.

// B^T patch B of each square's patch. Channels past the last read as zeros.
struct Int8Patches {
    const std::uint8_t* const* from;  // the patches' first positions
    std::ptrdiff_t step_y, step_x;
    int squares, room, channels;
    bool is_signed;
    std::int16_t* to;
};

// 2 G w (2 G)^T of a panel's weights for inputs [begin, begin + count), outputs [0, width): to[e * to_stride + n * row]. The weights
// of tap (y, x) and input i are at y * line_stride + row(x * inputs + i) * row.
struct Int8ElementWeights {
    const std::int8_t* from;
    std::ptrdiff_t line_stride;
    const std::int32_t* rows;  // row(n), or null: n
    int inputs, begin, count, width;
    std::int16_t* to;
    std::ptrdiff_t to_stride;
};

// One element's products: out[s][o] (begun at 0 if `first`) += sum over i < count of
// inputs[i / (2 * lanes)][s][i % (2 * lanes)] * weights[i][o] for `width` <= row outputs o. What lies behind an odd
// number of inputs is read, and not used.
struct Int8Element {
    const std::int16_t* inputs;
    int squares, room, count;
    const std::int16_t* weights;  // [count][row]
    int width;
    bool first;
    std::int32_t* out;            // [squares][row]
};

// A^T product A / 4 + start of each square, brought to the scale of what is written, to its four positions: 4 * square + 2 * y + x.
struct Int8Squares {
    const std::int32_t* from;  // [16][room][row]
    int squares, room;
    const std::int32_t* start;  // [row]
    int width;
    Int8Finish finish;          // arrays [row]
    const std::uint8_t* const* addends;  // per position, or null
    std::uint8_t* const* outputs;        // per position
};

struct Int8Kernels {
    const char* name;
    const Kernels* floats;  // of the same processors: what a network computes in float32
    int lanes;              // outputs are computed in multiples of as many
    int row;                // outputs of a panel
    int (*place)(int o);    // where output o stands in a row of weights
    // A kernel may read inputs with a sign, or those without, as if they were larger by this; sums then start as much lower.
    int excess_signed, excess_unsigned;
    int excess(bool is_signed) const { return is_signed ? excess_signed : excess_unsigned; }
    void (*product)(const Int8Product&);
    void (*depthwise)(const Int8Depthwise&, int positions);
    // to[r][place(j)] = from[r][place(columns[j])], where r runs through `rows_list`, or 0, 1, .. if null. Columns ascend, and
    // are given as if outputs stood in order, in panels that each begin at a multiple of `row`; n <= row.
    void (*pack_columns)(const std::int8_t* from, const std::int32_t* rows_list, int rows, const std::int32_t* columns, int n,
                         std::int8_t* to);
    void (*maxima)(const Int8Windows<std::uint8_t>&);
    void (*means)(const Int8Windows<float>&);
    void (*sum)(const Int8Sum&, std::uint8_t* to, int n);
    void (*complete)(const Int8Completion&, int positions);
    // To the nearest integer, halves to even, of from[i] * factor, in [low, high]; 0 for what is not a number.
    void (*quantize)(const float* from, float factor, int low, int high, std::uint8_t* to, int n);
    void (*dequantize)(const std::uint8_t* from, bool is_signed, float scale, float* to, int n);
    // to[i] = table[from[i]], of 256.
    void (*look_up)(const std::uint8_t* table, const std::uint8_t* from, std::uint8_t* to, std::ptrdiff_t n);
    // For 1, 2, .. vectors of positions; null where `product` serves better, and then so are the next three.
    void (*columns[max_vectors])(const Int8Columns&) = {};
    void (*dots)(const Int8Dots&) = nullptr;
    void (*finish)(const Int8Rows&) = nullptr;
    // to[r][j] = rows[r][offset + list[j]] for j < n; `list` ascends. A row's last word is filled up with 0. Reads up to 64 bytes
    // from any element that is listed on, and may write as many behind a row: `to_stride` is at least as much more than n.
    void (*pick)(const std::uint8_t* const* rows, std::ptrdiff_t offset, int count, const std::int32_t* list, int n, std::uint8_t* to,
                 std::ptrdiff_t to_stride) = nullptr;
    // Winograd's; null where `product` serves better, as where an instruction multiplies quads of bytes.
    void (*patches)(const Int8Patches&) = nullptr;
    void (*element_weights)(const Int8ElementWeights&) = nullptr;
    void (*element)(const Int8Element&) = nullptr;
    void (*squares)(const Int8Squares&) = nullptr;
};

// What sums of a product start at, [row], for its taps, inputs and weights and these biases [row].
void starts(const Int8Kernels&, const Int8Product&, const std::int32_t* bias, std::int32_t* to);

// As table.h's: "avx512vnni" and "avxvnni" have an instruction for it.
const Int8Kernels* find_int8_kernels(const char* name);
const char* const* available_int8_kernels();

}  // namespace convgate
