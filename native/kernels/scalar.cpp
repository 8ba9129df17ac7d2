// Scalar reference of every kernel: the definition, written to be read. Vectors of one lane.
#include <cmath>

#include "table.h"

namespace convgate {
namespace {

float activated(float x, Activation activation) {
    switch (activation) {
        case Activation::none: return x;
        case Activation::relu: return x < 0 ? 0 : x;
        case Activation::relu6: return x < 0 ? 0 : (x > 6 ? 6 : x);
        case Activation::hardswish: return x * activated(x + 3, Activation::relu6) / 6;
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::sigmoid: return 1 / (1 + std::exp(-x));
        case Activation::hardsigmoid: return activated(x + 3, Activation::relu6) / 6;
        default: return x;
    }
}

float function(float x, const Function& f) {
    switch (f.kind) {
        case Activation::leaky_relu: return x > 0 ? x : f.a * x;
        case Activation::elu: return x > 0 ? f.b * x : f.a * f.b * std::expm1(f.c * x);
        case Activation::gelu: return static_cast<float>(0.5 * x * std::erfc(x * -0.70710678118654752));
        case Activation::gelu_tanh: return x / (1 + std::exp(-1.5957691f * (x + 0.044715f * x * x * x)));
        case Activation::mish: return x * std::tanh(x > 20 ? x : std::log1p(std::exp(x)));
        case Activation::tanh: return std::tanh(x);
        case Activation::softplus: return x * f.a > f.b ? x : std::log1p(std::exp(x * f.a)) / f.a;
        case Activation::clamp: return x < f.a ? f.a : (x > f.b ? f.b : x);
        default: return activated(x, f.kind);
    }
}

void product(const Product& a, int p) {
    float sum = a.first ? 0 : a.accumulators[p];
    for (int t = 0; t < a.tap_count; t++)
        for (int i = a.begin; i < a.end; i++)
            sum += a.rows[p][a.taps[t] + i] * a.weights[t * a.tap_stride + (a.weight_rows ? a.weight_rows[i] : i)];
    if (!a.last) {
        a.accumulators[p] = sum;
        return;
    }
    sum += a.bias[0] + (a.addends ? a.addends[p][0] : 0);
    if (a.width > 0) a.outputs[p][0] = activated(sum, a.activation);
}

void columns(const Columns& a) {
    for (int o = 0; o < a.outputs; o++) {
        float sum = a.first ? 0 : a.accumulators[o];
        for (int r = 0; r < a.rows; r++)
            sum += a.inputs[r] * a.weights[(a.weight_rows ? a.weight_rows[r] : r) * a.weight_stride + a.columns[o]];
        a.accumulators[o] = sum;
    }
}

void patches(const Patches& a) {
    for (int s = 0; s < a.squares; s++)
        for (int c = 0; c < a.channels; c++) {
            float x[4][4], y[4][4];
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) x[i][j] = a.from[s][i * a.step_y + j * a.step_x + c];
            for (int j = 0; j < 4; j++) {
                y[0][j] = x[0][j] - x[2][j];
                y[1][j] = x[1][j] + x[2][j];
                y[2][j] = x[2][j] - x[1][j];
                y[3][j] = x[1][j] - x[3][j];
            }
            for (int i = 0; i < 4; i++) {
                const float z[4] = {y[i][0] - y[i][2], y[i][1] + y[i][2], y[i][2] - y[i][1], y[i][1] - y[i][3]};
                for (int j = 0; j < 4; j++) a.to[((4 * i + j) * a.channels + c) * a.room + s] = z[j];
            }
        }
}

void spread(float a, float b, float c, float* to) {
    to[0] = a, to[1] = (a + b + c) / 2, to[2] = (a - b + c) / 2, to[3] = c;
}

void element_weights(const ElementWeights& a) {
    for (int n = 0; n < a.count; n++)
        for (int o = 0; o < a.row; o++) {
            const float* from = a.from + static_cast<std::ptrdiff_t>(a.rows ? a.rows[n] : n) * a.row + o;
            float columns[3][4], row[4];
            for (int x = 0; x < 3; x++)
                spread(from[x * a.tap_stride], from[(3 + x) * a.tap_stride], from[(6 + x) * a.tap_stride], columns[x]);
            for (int i = 0; i < 4; i++) {
                spread(columns[0][i], columns[1][i], columns[2][i], row);
                for (int j = 0; j < 4; j++) a.to[(4 * i + j) * a.to_stride + static_cast<std::ptrdiff_t>(n) * a.row + o] = row[j];
            }
        }
}

void element(const Element& a) {
    for (int s = 0; s < a.squares; s++) {
        float sum = a.first ? 0 : a.out[s];
        for (int i = a.begin; i < a.end; i++)
            sum += a.inputs[i * a.room + s] * a.weights[a.weight_rows ? a.weight_rows[i] : i];
        a.out[s] = sum;
    }
}

void squares(const Squares& a) {
    for (int s = 0; s < a.squares; s++)
        for (int n = 0; n < a.width; n++) {
            const int c = a.kept ? a.kept[n] : n;
            float x[2][4];
            for (int j = 0; j < 4; j++) {
                float m[4];
                for (int i = 0; i < 4; i++) m[i] = a.from[((4 * i + j) * a.room + s) * a.row + c];
                x[0][j] = m[0] + m[1] + m[2];
                x[1][j] = m[1] - m[2] - m[3];
            }
            for (int i = 0; i < 2; i++) {
                const float y[2] = {x[i][0] + x[i][1] + x[i][2], x[i][1] - x[i][2] - x[i][3]};
                for (int j = 0; j < 2; j++) {
                    const int position = 4 * s + 2 * i + j;
                    const float addend = a.addends ? a.addends[position][n] : 0;
                    a.to[position][n] = activated(y[j] + a.bias[c] + addend, a.activation);
                }
            }
        }
}

void transpose(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to, std::ptrdiff_t to_stride) {
    for (int r = 0; r < count; r++)
        for (int i = 0; i < n; i++) to[i * to_stride + r] = rows[r][offset + i];
}

void dot(const Dot& a, int positions) {
    for (int p = 0; p < positions; p++)
        for (int o = 0; o < a.width; o++) {
            float sum = 0;
            for (int t = 0; t < a.tap_count; t++)
                for (int i = 0; i < a.length; i++) sum += a.rows[p][a.taps[t] + i] * a.weights[o][t * a.length + i];
            sum += a.bias[o] + (a.addends ? a.addends[p][o] : 0);
            a.outputs[p][o] = activated(sum, a.activation);
        }
}

void depthwise(const Depthwise& a, int positions) {
    for (int p = 0; p < positions; p++)
        for (int c = 0; c < a.channels; c++) {
            float sum = 0;
            for (int t = 0; t < a.tap_count; t++) sum += a.rows[p][a.taps[t] + c] * a.weights[t * a.channels + c];
            sum += a.bias[c] + (a.addends ? a.addends[p][c] : 0);
            a.outputs[p][c] = activated(sum, a.activation);
        }
}

void complete(const Completion& a, int positions) {
    for (int p = 0; p < positions; p++)
        for (int c = 0; c < a.width; c++) {
            const bool open = a.rest && (!a.open || a.open[p][c]);
            const float y = open ? (a.sums[p][c] + a.rest[p * a.rest_stride + c]) * a.open_scale[c] + a.open_shift[c]
                                 : a.sums[p][c] * a.scale[c] + a.shift[c];
            a.outputs[p][c] = activated(y + (a.addends ? a.addends[p][c] : 0), a.activation);
        }
}

void windows(const Windows& a) {
    for (int w = 0; w < a.windows; w++) {
        const float* from = a.from + w * a.from_step;
        for (int c = 0; c < a.channels; c++) {
            float result = a.maximum ? from[c] : 0;
            bool unordered = false;  // a maximum forgets what is not a number
            for (int y = 0; y < a.count_y; y++)
                for (int x = 0; x < a.count_x; x++) {
                    const float value = from[y * a.step_y + x * a.step_x + c];
                    result = a.maximum ? (value > result ? value : result) : result + value;
                    unordered |= value != value;
                }
            if (a.maximum && unordered) result = NAN;
            a.to[w * a.to_step + c] = a.maximum ? result : result * a.factor;
        }
    }
}

void pack_columns(const float* from, std::ptrdiff_t from_stride, const std::int32_t* rows_list, int rows,
                  const std::int32_t* columns, int n, float* to, std::ptrdiff_t to_stride) {
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < n; j++) to[r * to_stride + j] = from[(rows_list ? rows_list[r] : r) * from_stride + columns[j]];
}

void activate(float* to, const float* a, int n, Activation f) {
    for (int i = 0; i < n; i++) to[i] = activated(a[i], f);
}
void apply(float* to, const float* a, int n, const Function& f) {
    for (int i = 0; i < n; i++) to[i] = function(a[i], f);
}
float combined(float x, float y, Arithmetic f) {
    if (f == Arithmetic::divide) return x / y;
    if (x != x || y != y) return NAN;
    return f == Arithmetic::maximum ? (x > y ? x : y) : (x < y ? x : y);
}
void arithmetic(float* to, const float* a, int a_step, const float* b, int b_step, int n, Arithmetic f) {
    for (int i = 0; i < n; i++) to[i] = combined(a[i * a_step], b[i * b_step], f);
}
void blend(float* to, const float* const* from, const float* weights, int n) {
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) sum += weights[k] * from[k][i];
        to[i] = sum;
    }
}
void deviations(float* to, const float* a, const float* center, int n) {
    for (int i = 0; i < n; i++) to[i] += (a[i] - center[i]) * (a[i] - center[i]);
}
float reduce(const float* a, int n, bool maximum) {
    float most = a[0], sum = 0;
    bool unordered = false;
    for (int i = 0; i < n; i++) {
        most = a[i] > most ? a[i] : most;
        unordered |= a[i] != a[i];
        sum += a[i];
    }
    return !maximum ? sum / static_cast<float>(n) : unordered ? NAN : most;
}
void normalize(float* to, const float* a, const float* scale, const float* shift, int n, float epsilon) {
    const float mean = reduce(a, n, false);
    float squares = 0;
    for (int i = 0; i < n; i++) squares += (a[i] - mean) * (a[i] - mean);
    const float factor = 1 / std::sqrt(squares / static_cast<float>(n) + epsilon);
    for (int i = 0; i < n; i++) to[i] = (a[i] - mean) * factor * scale[i] + shift[i];
}
void softmax(float* to, const float* a, int n) {
    const float most = reduce(a, n, true);
    float sum = 0;
    for (int i = 0; i < n; i++) sum += to[i] = std::exp(a[i] - most);
    for (int i = 0; i < n; i++) to[i] /= sum;
}
void prelu(float* to, const float* a, const float* slope, int n) {
    for (int i = 0; i < n; i++) to[i] = a[i] > 0 ? a[i] : slope[i] * a[i];
}
void add(float* to, const float* a, const float* b, int n, Activation f) {
    for (int i = 0; i < n; i++) to[i] = activated(a[i] + b[i], f);
}
void multiply(float* to, const float* a, const float* b, int n) {
    for (int i = 0; i < n; i++) to[i] = a[i] * b[i];
}
void affine(float* to, const float* a, const float* scale, const float* shift, int n, Activation f) {
    for (int i = 0; i < n; i++) to[i] = activated(a[i] * scale[i] + shift[i], f);
}
}  // namespace

const Kernels scalar_kernels = {
    .name = "scalar",
    .lanes = 1,
    .vectors = 1,
    .tile = {1},
    .product = {{product}},
    .columns = {columns},
    .patches = patches,
    .element_weights = element_weights,
    .element = {element},
    .squares = squares,
    .transpose = transpose,
    .dot = dot,
    .depthwise = depthwise,
    .windows = windows,
    .complete = complete,
    .pack_columns = pack_columns,
    .activate = activate,
    .apply = apply,
    .arithmetic = arithmetic,
    .blend = blend,
    .deviations = deviations,
    .normalize = normalize,
    .softmax = softmax,
    .reduce = reduce,
    .prelu = prelu,
    .add = add,
    .multiply = multiply,
    .affine = affine,
};

}  // namespace convgate
