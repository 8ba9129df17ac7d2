// Scalar reference of every kernel for 8-bit integers: the definition, written to be read. "portable" has the same for
// integers, beside floats that any target's vectors compute.
#include <bit>
#include <cstring>

#include "int8_numbers.h"

namespace convgate {

void starts(const Int8Kernels& table, const Int8Product& a, const std::int32_t* bias, std::int32_t* to) {
    std::copy_n(bias, table.row, to);
    const int excess = table.excess(a.is_signed);
    if (excess == 0) return;
    for (int t = 0; t < a.tap_count; t++)
        for (int i = 0; i < a.count; i++) {
            const std::ptrdiff_t r = a.weight_rows ? a.weight_rows[i] : i;
            const std::int8_t* weights = a.weights + t * a.tap_stride + r * table.row;
            for (int o = 0; o < table.row; o++) to[o] -= excess * weights[table.place(o)];
        }
}

namespace {

#include "int8_rows.h"

constexpr int row = 16;

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

constexpr Int8Kernels make(const char* name, const Kernels* floats) {
    return {name, floats, row, row, place, 0, 0, product, depthwise, pack_columns, maxima, means, sum, complete, quantize, dequantize};
}

}  // namespace

extern const Kernels portable_kernels;
extern const Int8Kernels scalar_int8_kernels, portable_int8_kernels;
const Int8Kernels scalar_int8_kernels = make("scalar", &scalar_kernels);
const Int8Kernels portable_int8_kernels = make("portable", &portable_kernels);

}  // namespace convgate
