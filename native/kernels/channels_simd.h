// Kernels along rows of channels, whatever these are stored as; simd.h and bf16_simd.h include it when load, store, load_some
// and store_some are defined for their elements.

// How many elements of a vector count: all of them (known when compiling), or some.
struct Whole {};
template <typename T>
inline Vector take(const T* p, Whole) {
    return load(p);
}
template <typename T>
inline Vector take(const T* p, int count) {
    return load_some(p, count);
}
template <typename T>
inline void put(T* p, Vector v, Whole) {
    store(p, v);
}
template <typename T>
inline void put(T* p, Vector v, int count) {
    store_some(p, v, count);
}

// f(i, count) for the vectors of n elements; the last one may be partial.
template <typename N, typename Function>
inline void sweep(N n, Function f) {
    N i = 0;
    for (; i + lanes <= n; i += lanes) f(i, Whole());
    if (i < n) f(i, static_cast<int>(n - i));
}

// Vectors that a sum is formed in. AVX2 has two of 8 lanes, and adds them up as AVX-512 does the halves of its one of 16, so
// that results are the same.
constexpr int vectors_of_sum = lanes == 8 ? 2 : 1;

// f(i, h, count) for the vectors of n elements, of which each is added to vector h of a sum; the last one may be partial.
template <typename Function>
inline void sweep_sums(int n, Function f) {
    constexpr int at_once = vectors_of_sum * lanes;
    int i = 0;
    for (; i + at_once <= n; i += at_once) {
#pragma GCC unroll 2
        for (int h = 0; h < vectors_of_sum; h++) f(i + h * lanes, h, Whole());
    }
#pragma GCC unroll 2
    for (int h = 0; h < vectors_of_sum; h++, i += lanes)
        if (i < n) f(i, h, n - i < lanes ? n - i : lanes);
}

// -- depthwise -----------------------------------------------------------------------------------------------------

template <int tile, typename Args, typename Finish>
inline void depthwise_tile(const Args& a, int position, Finish finish) {
    std::decay_t<decltype(a.rows[0])> rows[tile];
    for (int p = 0; p < tile; p++) rows[p] = a.rows[position + p];
    sweep(a.channels, [&](int c, auto count) {
        Vector acc[tile];
        const Vector bias = take(a.bias + c, count);
#pragma GCC unroll 8
        for (int p = 0; p < tile; p++) acc[p] = bias;
        const float* weights = a.weights + c;
        for (int t = 0; t < a.tap_count; t++, weights += a.channels) {
            const Vector w = take(weights, count);
            const std::ptrdiff_t tap = a.taps[t] + c;
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) acc[p] += take(rows[p] + tap, count) * w;
        }
#pragma GCC unroll 8
        for (int p = 0; p < tile; p++) {
            if (a.addends) acc[p] += take(a.addends[position + p] + c, count);
            put(a.outputs[position + p] + c, finish(acc[p]), count);
        }
    });
}

// A kernel of 3x3 whose columns stay in registers from one position to the next.
template <typename Args, typename Finish>
inline void depthwise_sliding(const Args& a, int positions, Finish finish) {
    std::ptrdiff_t taps[9];
    for (int t = 0; t < 9; t++) taps[t] = a.taps[t];
    const Sliding sliding = a.sliding;
    sweep(a.channels, [&](int c, auto count) {
        const Vector bias = take(a.bias + c, count);
        Vector weights[9], x[3][3];
#pragma GCC unroll 9
        for (int t = 0; t < 9; t++) weights[t] = take(a.weights + static_cast<std::ptrdiff_t>(t) * a.channels + c, count), x[t % 3][t / 3] = bias;
        for (int p = 0; p < positions; p++) {
            const auto from = a.rows[p] + c;
            const auto move = [&](int column, int to) {
#pragma GCC unroll 3
                for (int line = 0; line < 3; line++) x[to][line] = x[column][line];
            };
            const auto read = [&](int column) {
#pragma GCC unroll 3
                for (int line = 0; line < 3; line++) x[column][line] = take(from + taps[3 * line + column], count);
            };
            const int shift = p > 0 && a.rows[p] - a.rows[p - 1] == sliding.step ? sliding.shift : 3;
            if (shift == 1) {
                move(1, 0), move(2, 1);
            } else {
                shift == 2 ? move(2, 0) : read(0);
                read(1);
            }
            read(2);
            Vector acc = bias;
#pragma GCC unroll 9
            for (int t = 0; t < 9; t++) acc += x[t % 3][t / 3] * weights[t];
            if (a.addends) acc += take(a.addends[p] + c, count);
            put(a.outputs[p] + c, finish(acc), count);
        }
    });
}

// `finish`: what is written of a vector of sums.
template <typename Args, typename Finish>
inline void depthwise_rows(const Args& a, int positions, Finish finish) {
    if (a.sliding.reuses()) return depthwise_sliding(a, positions, finish);
    int p = 0;
    for (; p + 8 <= positions; p += 8) depthwise_tile<8>(a, p, finish);
    for (; p + 2 <= positions; p += 2) depthwise_tile<2>(a, p, finish);
    for (; p < positions; p++) depthwise_tile<1>(a, p, finish);
}

// -- means of windows ----------------------------------------------------------------------------------------------

// Of `across` windows next to each other, of `vectors` vectors of channels each: sums that need not wait for each other.
// `count`: how many elements of each vector count.
template <int across, int vectors, typename Args, typename N>
inline void means_of(const Args& a, int window, int c, N count) {
    Vector sums[across][vectors] = {};
    const auto* from = a.from + window * a.from_step + c;
    for (int y = 0; y < a.count_y; y++)
        for (int x = 0; x < a.count_x; x++) {
            const auto* at = from + y * a.step_y + x * a.step_x;
#pragma GCC unroll 4
            for (int w = 0; w < across; w++)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) sums[w][v] += take(at + w * a.from_step + v * lanes, count);
        }
    for (int w = 0; w < across; w++)
        for (int v = 0; v < vectors; v++) put(a.to + (window + w) * a.to_step + c + v * lanes, sums[w][v] * a.factor, count);
}

template <typename Args>
inline void means(const Args& a) {
    constexpr int together = 4;
    const int whole = a.channels / (together * lanes) * together * lanes;
    for (int w = 0; w < a.windows; w++)
        for (int c = 0; c < whole; c += together * lanes) means_of<1, together>(a, w, c, Whole());
    sweep(a.channels - whole, [&](int c, auto count) {
        int w = 0;
        for (; w + together <= a.windows; w += together) means_of<together, 1>(a, w, whole + c, count);
        for (; w < a.windows; w++) means_of<1, 1>(a, w, whole + c, count);
    });
}
