// Scalar reference of every kernel for bfloat16: the definition, written to be read. Vectors of one lane.
#include <algorithm>
#include <cmath>

#include "bf16_numbers.h"

namespace convgate {
namespace {

// NaN stays NaN.
float bounded(float x, float least, float most) { return x < least ? least : (x > most ? most : x); }

float read(Bf16 x) { return widened(x); }
float read(float x) { return x; }
void write(Bf16& to, float x) { to = rounded(x); }
void write(float& to, float x) { to = x; }

void product(const Bf16Product& a, int p) {
    float sum = a.first ? 0 : a.accumulators[p];
    for (int t = 0; t < a.tap_count; t++)
        for (int i = a.begin; i < a.end; i++)
            sum += widened(a.rows[p][a.taps[t] + i]) * widened(a.weights[t * a.tap_stride + (a.weight_rows ? a.weight_rows[i] : i)]);
    if (!a.last) {
        a.accumulators[p] = sum;
        return;
    }
    sum += a.bias[0];
    if (a.addends) sum += widened(a.addends[p][0]);
    if (a.width > 0) a.outputs[p][0] = rounded(bounded(sum, a.least, a.most));
}

int place(int o, int) { return o; }

void pack_columns(const Bf16* from, std::ptrdiff_t from_stride, const std::int32_t* rows_list, int rows,
                  const std::int32_t* columns, int n, Bf16* to, std::ptrdiff_t to_stride) {
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < n; j++) to[r * to_stride + j] = from[(rows_list ? rows_list[r] : r) * from_stride + columns[j]];
}

template <typename Out>
void depthwise(const Bf16Depthwise<Out>& a, int positions) {
    for (int p = 0; p < positions; p++)
        for (int c = 0; c < a.channels; c++) {
            float sum = a.bias[c];
            for (int t = 0; t < a.tap_count; t++) sum += widened(a.rows[p][a.taps[t] + c]) * a.weights[t * a.channels + c];
            if (a.addends) sum += read(a.addends[p][c]);
            write(a.outputs[p][c], bounded(sum, a.least, a.most));
        }
}

template <typename Out>
void windows(const Bf16Windows<Out>& a) {
    for (int w = 0; w < a.windows; w++)
        for (int c = 0; c < a.channels; c++) {
            const Bf16* from = a.from + w * a.from_step + c;
            float most = widened(*from), sum = 0;
            bool unordered = false;  // a maximum forgets what is not a number
            for (int y = 0; y < a.count_y; y++)
                for (int x = 0; x < a.count_x; x++) {
                    const float value = widened(from[y * a.step_y + x * a.step_x]);
                    most = std::max(most, value);
                    sum += value;
                    unordered |= value != value;
                }
            write(a.to[w * a.to_step + c], !a.maximum ? sum * a.factor : unordered ? NAN : most);
        }
}

void widen(float* to, const Bf16* from, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; i++) to[i] = widened(from[i]);
}
void narrow(Bf16* to, const float* from, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; i++) to[i] = rounded(from[i]);
}

}  // namespace

extern const Bf16Kernels scalar_bf16_kernels;
const Bf16Kernels scalar_bf16_kernels = {
    .name = "scalar",
    .floats = &scalar_kernels,
    .lanes = 1,
    .vectors = 1,
    .tile = {1},
    .product = {{product}},
    .place = place,
    .pack_columns = pack_columns,
    .columns = {},
    .pair_rows = {},
    .depthwise = depthwise<Bf16>,
    .depthwise_to_float = depthwise<float>,
    .windows = windows<Bf16>,
    .windows_to_float = windows<float>,
    .widen = widen,
    .narrow = narrow,
};

}  // namespace convgate
