// Every kernel, written once over a vector type. An instruction set's file defines, before it includes this one, in an
// anonymous namespace (each file is compiled with its own flags, so nothing may be shared by name):
//   Vector        a GCC/Clang vector of floats          lanes         its length
//   load_some(p, n), store_some(p, v, n)                the first n < lanes floats; the others read 0
//   sums(v[4], out[4])                                  horizontal sums of four vectors
//   VECTORS                                             the widest block of output channels, in vectors
// and gets the functions that fill a Kernels table.

typedef float Loose __attribute__((vector_size(lanes * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef std::int32_t Integers __attribute__((vector_size(lanes * sizeof(float))));

inline Vector load(const float* p) { return *reinterpret_cast<const Loose*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Loose*>(p) = v; }
inline Vector all(float x) { return x - Vector{}; }  // not x + 0, which is not x for -0, and so would be computed
// The first argument where one is not a number: NaN stays NaN.
inline Vector largest(Vector a, Vector b) { return b > a ? b : a; }
inline Vector smallest(Vector a, Vector b) { return b < a ? b : a; }

// exp(x) = 2^n * (q + 1) for |x| <= 87, r = x - n ln 2, q a polynomial for |r| <= ln(2) / 2 (Cephes' coefficients).
struct Power {
    Vector q, scale;
};
inline Power power(Vector x) {
    x = smallest(largest(x, all(-87.0f)), all(87.0f));
    const Vector scaled = x * 1.44269504f;
    const Integers n = __builtin_convertvector(scaled + (scaled > Vector{} ? all(0.5f) : all(-0.5f)), Integers);
    const Vector whole = __builtin_convertvector(n, Vector);
    const Vector r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vector p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const Integers bits = (n + 127) << 23;
    return {p * r * r + r, reinterpret_cast<Vector>(bits)};
}
inline Vector exponential(Vector x) {
    const Power p = power(x);
    return (p.q + 1.0f) * p.scale;
}

template <Activation activation>
inline Vector activated(Vector x) {
    switch (activation) {
        case Activation::none: return x;
        case Activation::relu: return largest(x, Vector{});
        case Activation::relu6: return smallest(largest(x, Vector{}), all(6));
        case Activation::hardswish: return x * smallest(largest(x + 3, Vector{}), all(6)) * (1.0f / 6);
        case Activation::silu: return x / (exponential(-x) + 1);
        case Activation::sigmoid: return 1 / (exponential(-x) + 1);
        case Activation::hardsigmoid: return smallest(largest(x + 3, Vector{}), all(6)) * (1.0f / 6);
        default: return x;
    }
}

template <Activation activation>
struct Activate {
    Vector operator()(Vector x) const { return activated<activation>(x); }
};

#include "functions.h"

// f(the activation as a type): the choice is made once per call, not once per vector.
template <typename Function>
inline void with(Activation activation, Function f) {
    switch (activation) {
        case Activation::none: return f(Activate<Activation::none>());
        case Activation::relu: return f(Activate<Activation::relu>());
        case Activation::relu6: return f(Activate<Activation::relu6>());
        case Activation::hardswish: return f(Activate<Activation::hardswish>());
        case Activation::silu: return f(Activate<Activation::silu>());
        case Activation::sigmoid: return f(Activate<Activation::sigmoid>());
        case Activation::hardsigmoid: return f(Activate<Activation::hardsigmoid>());
        default: return f(Activate<Activation::none>());
    }
}

#include "channels_simd.h"

inline Whole clamped(Whole count) { return count; }
inline int clamped(int count) { return count < lanes ? count : lanes; }
inline bool is_nothing(Whole) { return false; }
inline bool is_nothing(int count) { return count <= 0; }

template <int vectors>
inline void fetch(const Ahead& a, bool listed, const float* weights, int n) {
    const int at = n < a.count ? n : a.count - 1;
    const float* row = weights + static_cast<std::ptrdiff_t>(listed ? a.rows[at] : at) * a.stride;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) __builtin_prefetch(row + v * lanes, 0, 2);
}

// -- products: output channels along the lanes ---------------------------------------------------------------------

// Inlined whatever the compiler thinks: as a call, its sums would live in memory.
template <int vectors, int tile, bool listed, int fetched>
__attribute__((always_inline)) inline void accumulate(const Product& a, int position, Vector (&acc)[tile][vectors]) {
    constexpr int row = vectors * lanes;
    for (int t = 0; t < a.tap_count; t++) {
        const float* x[tile];
        for (int p = 0; p < tile; p++) x[p] = a.rows[position + p] + a.taps[t];
        const float* weights = a.weights + t * a.tap_stride;
        const std::int32_t* weight_rows = a.weight_rows;
        const float* ahead = a.ahead.weights + t * a.ahead_tap;
#pragma GCC unroll 2
        for (int i = a.begin; i < a.end; i++) {
            const float* w = weights + static_cast<std::ptrdiff_t>(listed ? weight_rows[i] : i) * row;
            fetch<fetched>(a.ahead, listed, ahead, i - a.begin);
            Vector wv[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) wv[v] = load(w + v * lanes);
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) {
                const Vector xv = all(x[p][i]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) acc[p][v] += xv * wv[v];
            }
        }
    }
}

template <int vectors, int tile, typename Activation, typename Count>
inline void finish(const Product& a, int position, Vector (&acc)[tile][vectors], Activation activate, Count count_of) {
    Vector bias[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) bias[v] = load(a.bias + v * lanes);
#pragma GCC unroll 8
    for (int p = 0; p < tile; p++) {
        float* to = a.outputs[position + p];
        const float* addend = a.addends ? a.addends[position + p] : nullptr;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const auto count = clamped(count_of(v));
            if (is_nothing(count)) break;
            Vector y = acc[p][v] + bias[v];
            if (addend) y += take(addend + v * lanes, count);
            put(to + v * lanes, activate(y), count);
        }
    }
}

template <int vectors, int tile>
void product(const Product& a, int position) {
    constexpr int row = vectors * lanes;
    Vector acc[tile][vectors];
    float* kept = a.accumulators + static_cast<std::ptrdiff_t>(position) * row;
#pragma GCC unroll 8
    for (int p = 0; p < tile; p++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) acc[p][v] = a.first ? Vector{} : load(kept + p * row + v * lanes);
    if (a.last)  // what the results are added to and where they go comes from afar
        for (int p = 0; p < tile; p++) {
            const float* addend = a.addends ? a.addends[position + p] : nullptr;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                if (addend) __builtin_prefetch(addend + v * lanes);
                __builtin_prefetch(a.outputs[position + p] + v * lanes, 1);
            }
        }
    if (position + 2 * tile <= a.positions)  // and the next tile's inputs, of which the hardware then fetches the rest
        for (int p = 0; p < tile; p++) {
            const float* row = a.rows[position + tile + p] + a.taps[0] + a.begin;
            const int most = a.end - a.begin < 64 ? a.end - a.begin : 64;
            for (int i = 0; i < most; i += 16) __builtin_prefetch(row + i);
        }
    constexpr int fetched = vectors == VECTORS;  // a narrower block's loads are its bottleneck
    if (fetched && a.ahead.whole)
        a.weight_rows ? accumulate<vectors, tile, true, fetched * vectors>(a, position, acc)
                      : accumulate<vectors, tile, false, fetched * vectors>(a, position, acc);
    else
        a.weight_rows ? accumulate<vectors, tile, true, fetched>(a, position, acc)
                      : accumulate<vectors, tile, false, fetched>(a, position, acc);
    if (!a.last) {
#pragma GCC unroll 8
        for (int p = 0; p < tile; p++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) store(kept + p * row + v * lanes, acc[p][v]);
        return;
    }
    // A copy for the lambda: LLVM keeps what a lambda refers to in memory from the beginning, also in the loops above.
    Vector done[tile][vectors];
#pragma GCC unroll 8
    for (int p = 0; p < tile; p++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) done[p][v] = acc[p][v];
    with(a.activation, [&](auto activate) {
        if (a.width == row)
            finish<vectors, tile>(a, position, done, activate, [](int) { return Whole(); });
        else
            finish<vectors, tile>(a, position, done, activate, [&](int v) { return a.width - v * lanes; });
    });
}

// -- products: positions along the lanes ---------------------------------------------------------------------------

// `line`: which vector of each row to fetch.
template <int vectors, int tile, bool listed>
void columns_tile(const Columns& a, int output, int line) {
    constexpr int row = vectors * lanes;
    float* kept = a.accumulators + static_cast<std::ptrdiff_t>(output) * row;
    Vector acc[tile][vectors];
    const float* w[tile];
#pragma GCC unroll 8
    for (int o = 0; o < tile; o++) {
        w[o] = a.weights + a.columns[output + o];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) acc[o][v] = a.first ? Vector{} : load(kept + o * row + v * lanes);
    }
    const float* ahead = a.ahead.weights + line * lanes;
    const float* inputs = a.inputs;
#pragma GCC unroll 2
    for (int r = 0; r < a.rows; r++, inputs += row) {
        const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(listed ? a.weight_rows[r] : r) * a.weight_stride;
        fetch<1>(a.ahead, listed, ahead, r);
        Vector x[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) x[v] = load(inputs + v * lanes);
#pragma GCC unroll 8
        for (int o = 0; o < tile; o++) {
            const Vector wv = all(w[o][at]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) acc[o][v] += wv * x[v];
        }
    }
#pragma GCC unroll 8
    for (int o = 0; o < tile; o++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) store(kept + o * row + v * lanes, acc[o][v]);
}

using ColumnsTile = void (*)(const Columns&, int output, int line);

template <int vectors, bool listed, int... tiles>
inline void columns_tiles(const Columns& a, std::integer_sequence<int, tiles...>) {
    static constexpr ColumnsTile kernels[] = {columns_tile<vectors, tiles + 1, listed>...};
    constexpr int most = sizeof...(tiles);
    const int n = (a.outputs + most - 1) / most;
    for (int i = 0; i < n; i++) {
        const int begin = a.outputs * i / n, end = a.outputs * (i + 1) / n;
        kernels[end - begin - 1](a, begin, i % a.ahead_vectors);
    }
}

template <int vectors, int most>
void columns(const Columns& a) {
    if (a.weight_rows)
        columns_tiles<vectors, true>(a, std::make_integer_sequence<int, most>());
    else
        columns_tiles<vectors, false>(a, std::make_integer_sequence<int, most>());
}

// -- dot products: input channels along the lanes ------------------------------------------------------------------

template <int tile>
inline void dot_tile(const Dot& a, int position, int o, int outputs) {
    Vector acc[tile][4] = {};
    const float* w[4];
    for (int j = 0; j < 4; j++) w[j] = a.weights[o + (j < outputs ? j : 0)];
    for (int t = 0; t < a.tap_count; t++) {
        const float* x[tile];
        for (int p = 0; p < tile; p++) x[p] = a.rows[position + p] + a.taps[t];
        int c = 0;
        for (; c + lanes <= a.length; c += lanes) {
            Vector wv[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) wv[j] = load(w[j] + c);
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) {
                const Vector xv = load(x[p] + c);
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) acc[p][j] += xv * wv[j];
            }
        }
        if (c < a.length) {
            const int rest = a.length - c;
            for (int j = 0; j < 4; j++) {
                const Vector wv = load_some(w[j] + c, rest);
#pragma GCC unroll 8
                for (int p = 0; p < tile; p++) acc[p][j] += load_some(x[p] + c, rest) * wv;
            }
        }
        for (int j = 0; j < 4; j++) w[j] += a.length;
    }
    for (int p = 0; p < tile; p++) {
        float sum[4];
        sums(acc[p], sum);
        for (int j = 0; j < outputs; j++) {
            const float addend = a.addends ? a.addends[position + p][o + j] : 0.0f;
            sum[j] += a.bias[o + j] + addend;
        }
        with(a.activation, [&](auto activate) {
            store_some(a.outputs[position + p] + o, activate(load_some(sum, outputs)), outputs);
        });
    }
}

// One output of up to eight positions.
inline void dot_single(const Dot& a, int position, int positions, int o) {
    constexpr int tile = 8;
    Vector acc[tile / 4][4] = {};
    const float* weights = a.weights[o];
    for (int t = 0; t < a.tap_count; t++, weights += a.length) {
        const float* x[tile];
        for (int p = 0; p < tile; p++) x[p] = a.rows[position + (p < positions ? p : 0)] + a.taps[t];
        sweep(a.length, [&](int c, auto count) {
            const Vector w = take(weights + c, count);
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) acc[p / 4][p % 4] += take(x[p] + c, count) * w;
        });
    }
    float sum[tile];
    for (int quad = 0; quad < tile / 4; quad++) sums(acc[quad], sum + 4 * quad);
    for (int p = 0; p < positions; p++) sum[p] += a.bias[o] + (a.addends ? a.addends[position + p][o] : 0.0f);
    with(a.activation, [&](auto activate) {
        sweep(tile, [&](int p, auto count) { put(sum + p, activate(take(sum + p, count)), count); });
    });
    for (int p = 0; p < positions; p++) a.outputs[position + p][o] = sum[p];
}

constexpr int dot_positions = lanes == 16 ? 6 : 2;

void dot(const Dot& a, int positions) {
    if (a.width == 1) {
        for (int p = 0; p < positions; p += 8) dot_single(a, p, positions - p < 8 ? positions - p : 8, 0);
        return;
    }
    for (int o = 0; o < a.width; o += 4) {
        const int outputs = a.width - o < 4 ? a.width - o : 4;
        int p = 0;
        for (; p + dot_positions <= positions; p += dot_positions) dot_tile<dot_positions>(a, p, o, outputs);
        if constexpr (dot_positions > 2)
            for (; p + 2 <= positions; p += 2) dot_tile<2>(a, p, o, outputs);
        for (; p < positions; p++) dot_tile<1>(a, p, o, outputs);
    }
}

// -- depthwise: channels along the lanes ---------------------------------------------------------------------------

void depthwise(const Depthwise& a, int positions) {
    with(a.activation, [&](auto activate) { depthwise_rows(a, positions, activate); });
}

// -- windows -------------------------------------------------------------------------------------------------------

inline void maxima(const Windows& a) {
    const float* from = a.from;
    float* to = a.to;
    for (int w = 0; w < a.windows; w++, from += a.from_step, to += a.to_step)
        sweep(a.channels, [&](int c, auto count) {
            Vector result = take(from + c, count);
            Integers unordered = result != result;  // a maximum forgets what is not a number
            for (int y = 0; y < a.count_y; y++)
                for (int x = y == 0; x < a.count_x; x++) {
                    const Vector value = take(from + y * a.step_y + x * a.step_x + c, count);
                    result = largest(value, result);
                    unordered |= value != value;
                }
            put(to + c, unordered ? all(__builtin_nanf("")) : result, count);
        });
}

void windows(const Windows& a) { a.maximum ? maxima(a) : means(a); }

// -- sums that a gate completes ------------------------------------------------------------------------------------

typedef std::uint8_t Bytes __attribute__((vector_size(lanes)));

inline Bytes take_bytes(const std::uint8_t* p, int count) {
    Bytes v{};
    __builtin_memcpy(&v, p, static_cast<std::size_t>(count));
    return v;
}
inline Bytes take_bytes(const std::uint8_t* p, Whole) {
    Bytes v;
    __builtin_memcpy(&v, p, lanes);
    return v;
}

template <bool any_open, bool any_closed, typename Activation>
inline void complete_rows(const Completion& a, int positions, Activation activate) {
    for (int p = 0; p < positions; p++)
        sweep(a.width, [&](int c, auto count) {
            const Vector sum = take(a.sums[p] + c, count);
            Vector y;
            if (any_closed) y = sum * take(a.scale + c, count) + take(a.shift + c, count);
            if (any_open) {
                const Vector whole = (sum + take(a.rest + p * a.rest_stride + c, count)) * take(a.open_scale + c, count) +
                                     take(a.open_shift + c, count);
                if (any_closed)
                    y = __builtin_convertvector(take_bytes(a.open[p] + c, count), Integers) != 0 ? whole : y;
                else
                    y = whole;
            }
            if (a.addends) y += take(a.addends[p] + c, count);
            put(a.outputs[p] + c, activate(y), count);
        });
}

void complete(const Completion& a, int positions) {
    with(a.activation, [&](auto activate) {
        if (!a.rest) return complete_rows<false, true>(a, positions, activate);
        a.open ? complete_rows<true, true>(a, positions, activate) : complete_rows<true, false>(a, positions, activate);
    });
}

// -- rows ----------------------------------------------------------------------------------------------------------

void activate(float* to, const float* a, int n, Activation f) {
    with(f, [&](auto activate) {
        sweep(n, [&](int i, auto count) { put(to + i, activate(take(a + i, count)), count); });
    });
}
void apply(float* to, const float* a, int n, const Function& f) {
    with_function(f, [&](auto function) {
        sweep(n, [&](int i, auto count) { put(to + i, function(take(a + i, count)), count); });
    });
}
template <typename Operator>
inline void combine(float* to, const float* a, int a_step, const float* b, int b_step, int n, Operator f) {
    sweep(n, [&](int i, auto count) {
        const Vector x = a_step ? take(a + i, count) : all(*a), y = b_step ? take(b + i, count) : all(*b);
        put(to + i, f(x, y), count);
    });
}
void arithmetic(float* to, const float* a, int a_step, const float* b, int b_step, int n, Arithmetic f) {
    const auto with_operator = [&](auto g) { combine(to, a, a_step, b, b_step, n, g); };
    switch (f) {
        case Arithmetic::divide: return with_operator([](Vector x, Vector y) { return x / y; });
        case Arithmetic::maximum: return with_operator([](Vector x, Vector y) { return y != y ? y : largest(x, y); });
        case Arithmetic::minimum: return with_operator([](Vector x, Vector y) { return y != y ? y : smallest(x, y); });
    }
}
void blend(float* to, const float* const* from, const float* weights, int n) {
    sweep(n, [&](int i, auto count) {
        put(to + i, take(from[0] + i, count) * weights[0] + take(from[1] + i, count) * weights[1] +
                        (take(from[2] + i, count) * weights[2] + take(from[3] + i, count) * weights[3]), count);
    });
}
void deviations(float* to, const float* a, const float* center, int n) {
    sweep(n, [&](int i, auto count) {
        const Vector difference = take(a + i, count) - take(center + i, count);
        put(to + i, take(to + i, count) + difference * difference, count);
    });
}

inline float sum_of_lanes(Vector v) {
    float sum = 0;
    for (int i = 0; i < lanes; i++) sum += v[i];
    return sum;
}
// The lanes that count, or zeros.
inline Vector only(Vector v, Whole) { return v; }
inline Vector only(Vector v, int count) {
    for (int i = count; i < lanes; i++) v[i] = 0;
    return v;
}

void normalize(float* to, const float* a, const float* scale, const float* shift, int n, float epsilon) {
    Vector sum{}, squares{};
    sweep(n, [&](int i, auto count) { sum += take(a + i, count); });
    const float mean = sum_of_lanes(sum) / static_cast<float>(n);
    sweep(n, [&](int i, auto count) {
        const Vector difference = only(take(a + i, count) - mean, count);
        squares += difference * difference;
    });
    const float factor = 1.0f / __builtin_sqrtf(sum_of_lanes(squares) / static_cast<float>(n) + epsilon);
    sweep(n, [&](int i, auto count) {
        put(to + i, (take(a + i, count) - mean) * factor * take(scale + i, count) + take(shift + i, count), count);
    });
}

// NaN if any is.
float reduce(const float* a, int n, bool maximum) {
    if (!maximum) {
        Vector sum{};
        sweep(n, [&](int i, auto count) { sum += take(a + i, count); });
        return sum_of_lanes(sum) / static_cast<float>(n);
    }
    float most = a[0];
    for (int i = 1; i < n; i++)
        if (a[i] > most || a[i] != a[i]) most = a[i];
        else if (most != most) break;
    return most;
}

void softmax(float* to, const float* a, int n) {
    const float most = reduce(a, n, true);
    Vector sum{};
    sweep(n, [&](int i, auto count) {
        const Vector e = only(exponential(take(a + i, count) - most), count);
        sum += e;
        put(to + i, e, count);
    });
    const float factor = 1.0f / sum_of_lanes(sum);
    sweep(n, [&](int i, auto count) { put(to + i, take(to + i, count) * factor, count); });
}
void prelu(float* to, const float* a, const float* slope, int n) {
    sweep(n, [&](int i, auto count) {
        const Vector x = take(a + i, count);
        put(to + i, x > Vector{} ? x : x * take(slope + i, count), count);
    });
}
void add(float* to, const float* a, const float* b, int n, Activation f) {
    with(f, [&](auto activate) {
        sweep(n, [&](int i, auto count) { put(to + i, activate(take(a + i, count) + take(b + i, count)), count); });
    });
}
void multiply(float* to, const float* a, const float* b, int n) {
    sweep(n, [&](int i, auto count) { put(to + i, take(a + i, count) * take(b + i, count), count); });
}
void affine(float* to, const float* a, const float* scale, const float* shift, int n, Activation f) {
    with(f, [&](auto activate) {
        sweep(n, [&](int i, auto count) {
            put(to + i, activate(take(a + i, count) * take(scale + i, count) + take(shift + i, count)), count);
        });
    });
}
