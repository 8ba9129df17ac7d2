// The kernels that an instruction set provides, as one table. Every table has the same entries, tests compare each with
// the scalar one, and the runtime uses nothing else to touch numbers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "even_parts.h"

namespace convgate {

// Functions of single elements. Those up to `hardsigmoid` are computed by any kernel on its results; the others, which
// have parameters or are too large to be part of every kernel, by `apply`, in a pass of their own.
enum class Activation : int {
    none, relu, relu6, hardswish, silu, sigmoid, hardsigmoid,
    leaky_relu, elu, gelu, gelu_tanh, mish, tanh, softplus, clamp
};

constexpr int activation_count = static_cast<int>(Activation::clamp) + 1;
constexpr bool in_any_kernel(Activation activation) { return activation <= Activation::hardsigmoid; }

// An activation with its parameters:
//   leaky_relu  x > 0 ? x : a x
//   elu         x > 0 ? b x : a b (exp(c x) - 1); alpha, scale and input scale, so that it is CELU and SELU as well
//   softplus    x a > b ? x : log(1 + exp(a x)) / a
//   clamp       min(max(x, a), b)
struct Function {
    Activation kind = Activation::none;
    float a = 0, b = 0, c = 0;
    // What kernels compute on their results; the rest is `apply`'s.
    Activation inside() const { return in_any_kernel(kind) ? kind : Activation::none; }
};

enum class Arithmetic : int { divide, maximum, minimum };

constexpr int max_tile = 8;     // positions that a product kernel computes at once
constexpr int max_vectors = 4;  // vectors of output channels that it computes at once

// Input positions are given by the address of what their first tap reads; tap t reads at `taps[t]` floats from there.

constexpr int line_bytes = 64, line = line_bytes / sizeof(float);  // of the cache; in floats

// What a later call will read, and is fetched into the cache meanwhile: row(n) of the weights for n < count. Of products and
// elements only the widest blocks do so. Addresses past the weights' end do no harm.
struct Ahead {
    const float* weights;
    std::ptrdiff_t stride;
    const std::int32_t* rows;  // row(n), or null: n
    int count;
};

// A product of inputs and a block of weights, output channels along the lanes:
//   acc[p][o] += sum over taps t, i in [begin, end) of rows[p][taps[t] + i] * weights[t][row(i)][o]
// for `width` <= vectors * lanes output channels o. A long sum is done in several calls that keep acc in memory.
struct Product {
    const float* const* rows;
    int positions;                    // how many rows there are
    const std::ptrdiff_t* taps;
    int tap_count;
    int begin, end;
    const float* weights;             // row (t, r) is at t * tap_stride + r * vectors * lanes
    std::ptrdiff_t tap_stride;
    const std::int32_t* weight_rows;  // row(i), or null: i
    Ahead ahead;
    std::ptrdiff_t ahead_tap;         // from what is fetched during one tap to the next one's
    bool first, last;                 // first: acc starts at 0; last: results are finished and written
    float* accumulators;              // [positions][vectors * lanes], between calls
    const float* bias;                // [vectors * lanes]
    const float* const* addends;      // per position, added to the result; or null
    float* const* outputs;            // per position
    int width;
    Activation activation;
};

// The same product the other way round, for few positions: positions along the lanes, any output channels.
//   acc[o][p] += sum over r < rows of inputs[r][p] * weights[row(r) * weight_stride + columns[o]]
struct Columns {
    const float* inputs;              // [rows][vectors * lanes]
    int rows;
    const float* weights;
    std::ptrdiff_t weight_stride;
    const std::int32_t* weight_rows;  // row(r), or null: r
    const std::int32_t* columns;      // per output channel
    int outputs;
    Ahead ahead;
    int ahead_lines;                  // in a row of what is fetched
    bool first;                       // acc starts at 0
    float* accumulators;              // [outputs][vectors * lanes]
};

// Dot products along the inputs, for any output channels and any positions:
//   out[p][o] = activation(sum over taps t, i < length of rows[p][taps[t] + i] * weights[o][t * length + i] + bias[o])
struct Dot {
    const float* const* rows;
    const std::ptrdiff_t* taps;
    int tap_count;
    int length;
    const float* const* weights;  // per output channel, [taps][length]
    const float* bias;            // per output channel
    int width;                    // output channels
    const float* const* addends;
    float* const* outputs;
    Activation activation;
};

// What positions of a depthwise convolution have in common, where its kernel is 3x3: one whose row is `step` elements behind
// the one before it reads in its first columns what that one read from its column `shift` on. With a shift of 3 nothing is
// in common; 0: the kernel is another.
struct Sliding {
    int shift = 0;
    std::ptrdiff_t step = 0;
    bool reuses() const { return shift == 1 || shift == 2; }
};

// Depthwise: out[p][c] = activation(sum over taps t of rows[p][taps[t] + c] * weights[t * channels + c] + bias[c])
struct Depthwise {
    const float* const* rows;
    const std::ptrdiff_t* taps;
    int tap_count;
    int channels;
    const float* weights;
    const float* bias;
    const float* const* addends;
    float* const* outputs;
    Activation activation;
    Sliding sliding = {};
};

// Sums that are completed where a gate is open:
//   out[p][c] = activation((sums[p][c] + rest[p][c]) * open_scale[c] + open_shift[c] + addends[p][c]) where open[p][c], else
//   out[p][c] = activation(sums[p][c] * scale[c] + shift[c] + addends[p][c])
struct Completion {
    const float* const* sums;         // per position
    const float* rest;                // [positions][rest_stride]; or null: all is closed
    std::ptrdiff_t rest_stride;
    const std::uint8_t* const* open;  // per position, 0 or 1 for each channel; or null: where there is a rest, all is open
    const float *scale, *shift, *open_scale, *open_shift;
    const float* const* addends;      // per position, or null
    float* const* outputs;            // per position
    int width;
    Activation activation;
};

// Over each of `windows` windows of count_y x count_x rows: the maximum, or `factor` times the sum, of each channel.
struct Windows {
    int windows;
    const float* from;                  // the first one's first row
    std::ptrdiff_t from_step, to_step;  // from one window to the next
    int count_y, count_x;
    std::ptrdiff_t step_y, step_x;
    int channels;
    float* to;
    bool maximum;
    float factor;
};

// Winograd's F(2x2, 3x3): a square of 2x2 outputs of a 3x3 convolution is A^T ((G w G^T) * (B^T patch B)) A, with the 4x4
// patch of inputs that it depends on (Lavin and Gray, 2016, arXiv:1509.09308, equation 8). Between the transformations
// each of the 16 elements is a product of its own. Transformed inputs lie in blocks of as many channels as a vector has
// lanes, so that a product finds the inputs of its squares at constant distances: [16][blocks][room][lanes], with room for
// at least as many squares as there are. (Not for 64: the elements of a square would then compete for one set of a cache.)

constexpr int elements = 16;

// B^T patch B of each square's patch, of maps that are stored as T. Channels past the last read as zeros.
template <typename T>
struct PatchesOf {
    const T* const* from;  // the patches' first positions
    std::ptrdiff_t step_y, step_x;
    int squares, room, channels;
    float* to;
};
using Patches = PatchesOf<float>;

// G w G^T of a block's weights: to[e * to_stride + n * row + o] for n < count, o < row, from the nine taps
// from[tap * tap_stride + row(n) * row + o].
template <typename T>
struct ElementWeightsOf {
    const T* from;
    std::ptrdiff_t tap_stride;
    const std::int32_t* rows;  // row(n), or null: n
    int count, row;            // row: a multiple of the lanes
    float* to;
    std::ptrdiff_t to_stride;
};
using ElementWeights = ElementWeightsOf<float>;

// One element's products: out[s][o] += sum over i in [begin, end) of inputs[i / lanes][s][i % lanes] * weights[row(i)][o]
struct Element {
    const float* inputs;
    int squares, room;
    int begin, end;                   // begin: a multiple of the lanes
    const float* weights;             // row r is at r * vectors * lanes
    const std::int32_t* weight_rows;  // row(i), or null: i
    Ahead ahead;
    bool first;                       // out starts at 0
    float* out;                       // [squares][vectors * lanes]
};

// activation(A^T product A + bias + addend) of each square, to its four positions: 4 * square + 2 * y + x. What is kept of a
// row is written, and has its addends, next to each other.
template <typename T, typename Function>
struct SquaresOf {
    const float* from;       // [16][room][row]
    int squares, room, row;  // row: a multiple of the lanes; at most max_vectors of them where `kept` says what is written
    const float* bias;  // [row]
    const T* const* addends;   // per position, or null
    T* const* to;              // per position
    int width;
    const std::int32_t* kept;  // the `width` results of a row that are written, ascending; or null: the first ones
    Function activation;
};
using Squares = SquaresOf<float, Activation>;

using ProductKernel = void (*)(const Product&, int position);

struct Kernels {
    const char* name;
    int lanes;                                          // floats in a vector
    int vectors;                                        // widest block of output channels, in vectors
    int tile[max_vectors];                              // most positions at once, for 1, 2.. vectors
    ProductKernel product[max_vectors][max_tile];       // [vectors - 1][positions - 1]
    void (*columns[max_vectors])(const Columns&);       // [vectors - 1]
    void (*patches)(const Patches&);
    void (*element_weights)(const ElementWeights&);
    void (*element[max_vectors])(const Element&);       // [vectors - 1]
    void (*squares)(const Squares&);
    // to[i * to_stride + r] = rows[r][offset + i] for r < count, i < n
    void (*transpose)(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to, std::ptrdiff_t to_stride);
    void (*dot)(const Dot&, int positions);
    void (*depthwise)(const Depthwise&, int positions);
    void (*windows)(const Windows&);
    void (*complete)(const Completion&, int positions);
    // to[r][j] = from[r * from_stride + columns[j]] for j < n, where r runs through `rows_list`, or 0, 1, .. if null; rows
    // of `to` are `to_stride` >= n apart. Columns ascend.
    void (*pack_columns)(const float* from, std::ptrdiff_t from_stride, const std::int32_t* rows_list, int rows,
                         const std::int32_t* columns, int n, float* to, std::ptrdiff_t to_stride);
    void (*activate)(float* to, const float* a, int n, Activation);
    void (*apply)(float* to, const float* a, int n, const Function&);
    // to[i] = a[i * a_step] op b[i * b_step]; steps are 0 or 1.
    void (*arithmetic)(float* to, const float* a, int a_step, const float* b, int b_step, int n, Arithmetic);
    // to[i] = sum over k < 4 of weights[k] * from[k][i]
    void (*blend)(float* to, const float* const* from, const float* weights, int n);
    // to[i] += (a[i] - center[i])^2
    void (*deviations)(float* to, const float* a, const float* center, int n);
    // (a[i] - mean) / sqrt(variance + epsilon) * scale[i] + shift[i], with the mean and variance of all a[i]
    void (*normalize)(float* to, const float* a, const float* scale, const float* shift, int n, float epsilon);
    // exp(a[i]) / sum of exp(a[j])
    void (*softmax)(float* to, const float* a, int n);
    // The maximum, or the mean.
    float (*reduce)(const float* a, int n, bool maximum);
    // x > 0 ? x : slope[i] x
    void (*prelu)(float* to, const float* a, const float* slope, int n);
    void (*add)(float* to, const float* a, const float* b, int n, Activation);
    void (*multiply)(float* to, const float* a, const float* b, int n);
    void (*affine)(float* to, const float* a, const float* scale, const float* shift, int n, Activation);
};

extern const Kernels scalar_kernels;

// The table of that name ("avx512", "avx2", "portable", "scalar"), or of the best set that this machine has for "" and
// "auto". Null if there is none of that name, or this machine cannot run it.
const Kernels* find_kernels(const char* name);

// Names of the tables that this machine can run, best first, until null.
const char* const* available_kernels();

}  // namespace convgate
