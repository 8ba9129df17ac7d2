// Dot products, for a handful of outputs: input channels along the lanes; part of simd.h.

// The horizontal sums of four sums' vectors.
inline void sums_of_all(const Vector (&v)[4][vectors_of_sum], float* out) {
    Vector whole[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        whole[i] = v[i][0];
        for (int h = 1; h < vectors_of_sum; h++) whole[i] = whole[i] + v[i][h];
    }
    sums(whole, out);
}

template <int tile>
inline void dot_tile(const Dot& a, int position, int o, int outputs) {
    Vector acc[tile][4][vectors_of_sum] = {};
    const float* w[4];
    for (int j = 0; j < 4; j++) w[j] = a.weights[o + (j < outputs ? j : 0)];
    for (int t = 0; t < a.tap_count; t++) {
        const float* x[tile];
        for (int p = 0; p < tile; p++) x[p] = a.rows[position + p] + a.taps[t];
        sweep_sums(a.length, [&](int c, int h, auto count) {
            Vector wv[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) wv[j] = take(w[j] + c, count);
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) {
                const Vector xv = take(x[p] + c, count);
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) acc[p][j][h] += xv * wv[j];
            }
        });
        for (int j = 0; j < 4; j++) w[j] += a.length;
    }
    for (int p = 0; p < tile; p++) {
        float sum[4];
        sums_of_all(acc[p], sum);
        for (int j = 0; j < outputs; j++) {
            const float addend = a.addends ? a.addends[position + p][o + j] : 0.0f;
            sum[j] += a.bias[o + j] + addend;
        }
        with(a.activation, [&](auto activate) {
            store_some(a.outputs[position + p] + o, activate(load_some(sum, outputs)), outputs);
        });
    }
}

constexpr int dot_singles = 8 / vectors_of_sum;

// One output of up to `dot_singles` positions.
inline void dot_single(const Dot& a, int position, int positions, int o) {
    constexpr int tile = dot_singles;
    Vector acc[tile / 4][4][vectors_of_sum] = {};
    const float* weights = a.weights[o];
    for (int t = 0; t < a.tap_count; t++, weights += a.length) {
        const float* x[tile];
        for (int p = 0; p < tile; p++) x[p] = a.rows[position + (p < positions ? p : 0)] + a.taps[t];
        sweep_sums(a.length, [&](int c, int h, auto count) {
            const Vector w = take(weights + c, count);
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) acc[p / 4][p % 4][h] += take(x[p] + c, count) * w;
        });
    }
    float sum[tile];
    for (int quad = 0; quad < tile / 4; quad++) sums_of_all(acc[quad], sum + 4 * quad);
    for (int p = 0; p < positions; p++) sum[p] += a.bias[o] + (a.addends ? a.addends[position + p][o] : 0.0f);
    with(a.activation, [&](auto activate) {
        sweep(tile, [&](int p, auto count) { put(sum + p, activate(take(sum + p, count)), count); });
    });
    for (int p = 0; p < positions; p++) a.outputs[position + p][o] = sum[p];
}

constexpr int dot_positions = lanes == 16 ? 6 : vectors_of_sum == 2 ? 1 : 2;

void dot(const Dot& a, int positions) {
    if (a.width == 1) {
        for (int p = 0; p < positions; p += dot_singles)
            dot_single(a, p, positions - p < dot_singles ? positions - p : dot_singles, 0);
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
