// Dot products, for a handful of outputs: input channels along the lanes; part of simd.h.

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
