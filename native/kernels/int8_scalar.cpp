// Scalar reference of every kernel for 8-bit integers: the definition, written to be read. "portable" has the same for
// integers, beside floats that any target's vectors compute.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "int8.h"

namespace convgate {

namespace {

constexpr int vector_bytes = __BIGGEST_ALIGNMENT__;

#include "int8_rows.h"

constexpr int row = 16, most_row = 64, at_once = 512;

constexpr std::array<std::uint8_t, at_once> ones = [] {
    std::array<std::uint8_t, at_once> all{};
    for (std::uint8_t& one : all) one = 1;
    return all;
}();

// A sum of output o as it is written; `addend` points to its addend, or is null.
inline std::uint8_t finished(const Int8Finish& f, std::int32_t sum, int o, const std::uint8_t* addend) {
    std::int64_t result = brought(sum, f.multiplier[o], f.shift[o]);
    if (addend) result += brought(integer(*addend, f.addend_signed), f.addend.multiplier, f.addend.shift);
    return static_cast<std::uint8_t>(std::clamp<std::int64_t>(result, f.low, f.high));
}

// A sum of a depthwise convolution.
inline std::int32_t depthwise_sum(const Int8Depthwise& a, int p, int c) {
    std::int32_t sum = a.start[c];
    for (int t = 0; t < a.tap_count; t++) {
        const std::int32_t four = a.weights[static_cast<std::ptrdiff_t>(t / 4) * a.channels + c];
        sum += integer(a.rows[p][a.taps[t] + c], a.is_signed) * static_cast<std::int8_t>(four >> t % 4 * 8);
    }
    return sum;
}

void product(const Int8Product& a) {
    for (int p = 0; p < a.positions; p++)
        for (int o = 0; o < a.width; o++) {
            std::int32_t sum = a.start[o] + (a.adds ? a.sums[p][o] : 0);
            for (int t = 0; t < a.tap_count; t++)
                for (int i = 0; i < a.count; i++) {
                    const std::ptrdiff_t r = a.weight_rows ? a.weight_rows[i] : i;
                    sum += integer(a.rows[p][a.taps[t] + i], a.is_signed) * a.weights[t * a.tap_stride + r * row + o];
                }
            if (a.sums)
                a.sums[p][o] = sum;
            else if (a.outputs)
                a.outputs[p][o] = finished(a.finish, sum, o, a.addends ? a.addends[p] + o : nullptr);
            else
                a.floats[p][o] = static_cast<float>(sum) * a.scale[o];
        }
}

int place(int o) { return o; }

void depthwise(const Int8Depthwise& a, int positions) {
    for (int p = 0; p < positions; p++)
        for (int c = 0; c < a.channels; c++) {
            const std::int32_t sum = depthwise_sum(a, p, c);
            if (a.outputs)
                a.outputs[p][c] = finished(a.finish, sum, c, a.addends ? a.addends[p] + c : nullptr);
            else
                a.floats[p][c] = static_cast<float>(sum) * a.scale[c];
        }
}

void pack_columns(const std::int8_t* from, const std::int32_t* rows_list, int rows, const std::int32_t* columns, int n, std::int8_t* to) {
    pack_in_order(place, row, from, rows_list, rows, columns, n, to);
}

void look_up(const std::uint8_t* table, const std::uint8_t* from, std::uint8_t* to, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; i++) to[i] = table[from[i]];
}

constexpr Int8Kernels make(const char* name, const Kernels* floats) {
    return {
        .name = name,
        .floats = floats,
        .lanes = row,
        .row = row,
        .place = place,
        .excess_signed = 0,
        .excess_unsigned = 0,
        .product = product,
        .depthwise = depthwise,
        .pack_columns = pack_columns,
        .maxima = maxima,
        .means = means,
        .sum = sum,
        .complete = complete,
        .quantize = quantize,
        .dequantize = dequantize,
        .look_up = look_up,
    };
}

}  // namespace

// The kernel itself adds the weights up: of inputs that are 1, and that it reads as they are.
void starts(const Int8Kernels& table, const Int8Product& a, const std::int32_t* bias, std::int32_t* to) {
    const std::uint32_t excess = static_cast<std::uint32_t>(table.excess(a.is_signed));
    std::int32_t added[most_row] = {};
    if (excess) {
        const std::uint8_t* const inputs = ones.data();
        const std::ptrdiff_t tap = 0;
        const std::int32_t zeros[most_row] = {};
        std::int32_t* const sums = added;
        Int8Product of{};
        of.rows = &inputs, of.positions = 1, of.taps = &tap, of.tap_count = 1, of.is_signed = !a.is_signed;
        of.start = zeros, of.width = table.row, of.sums = &sums, of.adds = true;
        for (int t = 0; t < a.tap_count; t++)
            for (int begin = 0; begin < a.count; begin += at_once) {
                of.weights = a.weights + t * a.tap_stride + (a.weight_rows ? 0 : static_cast<std::ptrdiff_t>(begin) * table.row);
                of.weight_rows = a.weight_rows ? a.weight_rows + begin : nullptr;
                of.count = std::min(at_once, a.count - begin);
                table.product(of);
            }
    }
    // Modulo 2^32, as the kernels' sums: what is lost here comes back there.
    for (int o = 0; o < table.row; o++) to[o] = static_cast<std::int32_t>(static_cast<std::uint32_t>(bias[o]) - excess * static_cast<std::uint32_t>(added[o]));
}

extern const Kernels portable_kernels;
extern const Int8Kernels scalar_int8_kernels, portable_int8_kernels;
const Int8Kernels scalar_int8_kernels = make("scalar", &scalar_kernels);
const Int8Kernels portable_int8_kernels = make("portable", &portable_kernels);

}  // namespace convgate
