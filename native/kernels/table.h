// The kernels that an instruction set provides, as one table. Every table has the same entries, tests compare each with
// the scalar one, and the runtime uses nothing else to touch numbers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convgate {

enum class Activation : int { none, relu, relu6, hardswish, silu, sigmoid, hardsigmoid };

constexpr int max_tile = 8;     // positions that a product kernel computes at once
constexpr int max_vectors = 4;  // vectors of output channels that it computes at once

// Input positions are given by the address of what their first tap reads; tap t reads at `taps[t]` floats from there.

// A product of inputs and a block of weights, output channels along the lanes:
//   acc[p][o] += sum over taps t, i in [begin, end) of rows[p][taps[t] + i] * weights[t][row(i)][o]
// for `width` <= vectors * lanes output channels o. A long sum is done in several calls that keep acc in memory.
struct Product {
    const float* const* rows;
    const std::ptrdiff_t* taps;
    int tap_count;
    int begin, end;
    const float* weights;             // row (t, r) is at t * tap_stride + r * vectors * lanes
    std::ptrdiff_t tap_stride;
    const std::int32_t* weight_rows;  // row(i), or null: i
    // What a later call will read is fetched into the cache meanwhile: for each (t, i), the line at ahead + t * ahead_tap +
    // row(i) * ahead_stride. Addresses past the end do no harm.
    const float* ahead;
    std::ptrdiff_t ahead_tap, ahead_stride;
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
    const float* ahead;               // what a later call will read, fetched into the cache meanwhile
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
};

// Over windows of count_y x count_x rows: the maximum, or `factor` times the sum, of each channel.
struct Window {
    const float* from;
    int count_y, count_x;
    std::ptrdiff_t step_y, step_x;
    int channels;
    float* to;
    bool maximum;
    float factor;
};

using ProductKernel = void (*)(const Product&, int position);

struct Kernels {
    const char* name;
    int lanes;                                          // floats in a vector
    int vectors;                                        // widest block of output channels, in vectors
    int tile[max_vectors];                              // most positions at once, for 1, 2.. vectors
    ProductKernel product[max_vectors][max_tile];       // [vectors - 1][positions - 1]
    void (*columns[max_vectors])(const Columns&);       // [vectors - 1]
    // to[i * to_stride + r] = rows[r][offset + i] for r < count, i < n
    void (*transpose)(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to, std::ptrdiff_t to_stride);
    void (*dot)(const Dot&, int positions);
    void (*depthwise)(const Depthwise&, int positions);
    void (*window)(const Window&);
    // to[r][j] = from[r * from_stride + columns[j]] for j < n, where r runs through `rows_list`, or 0, 1, .. if null; rows
    // of `to` are `to_stride` >= n apart. Columns ascend.
    void (*pack_columns)(const float* from, std::ptrdiff_t from_stride, const std::int32_t* rows_list, int rows,
                         const std::int32_t* columns, int n, float* to, std::ptrdiff_t to_stride);
    void (*activate)(float* to, const float* a, int n, Activation);
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
