// A product's sums where an instruction adds the products of pairs: `add_pair` of the file that includes this one.

// Inlined whatever the compiler thinks: as a call, its sums would live in memory.
template <int vectors, int tile, bool listed>
__attribute__((always_inline)) inline void accumulate(const Bf16Product& a, int position, Vector (&acc)[tile][vectors]) {
    constexpr int row = vectors * lanes;
    alignas(64) static constexpr Bf16 zeros[row] = {};
    for (int t = 0; t < a.tap_count; t++) {
        const Bf16* x[tile];
        for (int p = 0; p < tile; p++) x[p] = a.rows[position + p] + a.taps[t];
        const Bf16* weights = a.weights + t * a.tap_stride;
        const Bf16* ahead = a.ahead.weights + t * a.ahead_tap;
        const auto at = [&](int i) { return weights + static_cast<std::ptrdiff_t>(listed ? a.weight_rows[i] : i) * row; };
        int inputs[tile];
        int i = a.begin;
        for (; i + 1 < a.end; i += 2) {
            // A narrower block's loads are its bottleneck; of a shorter row, a line of the cache holds several.
            if constexpr (vectors == VECTORS && row * sizeof(Bf16) == 128)
                for (int n = i - a.begin; n < i - a.begin + 2; n++) {
                    const int later = n < a.ahead.count ? n : a.ahead.count - 1;
                    const Bf16* next = ahead + static_cast<std::ptrdiff_t>(listed ? a.ahead.rows[later] : later) * a.ahead.stride;
                    __builtin_prefetch(next, 0, 2);
                    __builtin_prefetch(next + 32, 0, 2);
                }
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) __builtin_memcpy(&inputs[p], x[p] + i, sizeof(int));
            add_pair<vectors, tile>(at(i), at(i + 1), inputs, acc);
        }
        if (i == a.end) continue;
        for (int p = 0; p < tile; p++) inputs[p] = x[p][i].bits;
        add_pair<vectors, tile>(at(i), zeros, inputs, acc);
    }
}
