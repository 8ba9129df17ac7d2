// A product's sums where an instruction adds the products of pairs: `add_pair` of the file that includes this one, and, where rows
// can be paired, `add_words`. All are inlined whatever the compiler thinks: as a call, their sums would live in memory.

// With two inputs from n on, of the next call's weights the same rows.
template <int vectors, bool listed>
__attribute__((always_inline)) inline void fetch_pair(const Bf16Ahead& a, const Bf16* weights, int n) {
    // A narrower block's loads are its bottleneck; of a shorter row, a line of the cache holds several.
    if constexpr (vectors == VECTORS && vectors * lanes * sizeof(Bf16) == 128)
        for (int i = n; i < n + 2; i++) {
            const int later = i < a.count ? i : a.count - 1;
            const Bf16* next = weights + static_cast<std::ptrdiff_t>(listed ? a.rows[later] : later) * a.stride;
            __builtin_prefetch(next, 0, 2);
            __builtin_prefetch(next + 32, 0, 2);
        }
}

// `paired`: as Bf16Product says.
template <int vectors, int tile, bool listed, bool paired>
__attribute__((always_inline)) inline void accumulate_rows(const Bf16Product& a, int position, Vector (&acc)[tile][vectors]) {
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
            fetch_pair<vectors, listed>(a.ahead, ahead, i - a.begin);
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) __builtin_memcpy(&inputs[p], x[p] + i, sizeof(int));
            if constexpr (paired)
                add_words<vectors, tile>(at(i), inputs, acc);
            else
                add_pair<vectors, tile>(at(i), at(i + 1), inputs, acc);
        }
        if (paired || i == a.end) continue;
        for (int p = 0; p < tile; p++) inputs[p] = x[p][i].bits;
        add_pair<vectors, tile>(at(i), zeros, inputs, acc);
    }
}

template <int vectors, int tile, bool listed>
__attribute__((always_inline)) inline void accumulate(const Bf16Product& a, int position, Vector (&acc)[tile][vectors]) {
    if constexpr (pairs_rows && !listed)
        if (a.paired) return accumulate_rows<vectors, tile, false, true>(a, position, acc);
    accumulate_rows<vectors, tile, listed, false>(a, position, acc);
}
