// A product's sums where an instruction adds the products of pairs: `add_pair` of the file that includes this one, and, where rows
// can be paired, `add_words`. All are inlined whatever the compiler thinks: as a call, their sums would live in memory.

#include "fetching.h"

// Whether a block's kernel fetches what comes next, and with how many inputs a part of it. A narrower one's loads are its bottleneck;
// of a row that is shorter than a line of the cache, a line holds several.
template <int vectors>
constexpr bool fetches_halves = vectors == VECTORS && vectors * lanes * sizeof(Bf16) >= line_bytes;
constexpr int inputs_per_turn = 32;

// `paired`: as Bf16Product says.
template <int vectors, int tile, bool listed, bool paired>
__attribute__((always_inline)) inline void accumulate_rows(const Bf16Product& a, int position, Vector (&acc)[tile][vectors]) {
    constexpr int row = vectors * lanes;
    alignas(64) static constexpr Bf16 zeros[row] = {};
    for (int t = 0; t < a.tap_count; t++) {
        const Bf16* x[tile];
        for (int p = 0; p < tile; p++) x[p] = a.rows[position + p] + a.taps[t];
        const Bf16* weights = a.weights + t * a.tap_stride;
        Bf16Ahead ahead = a.ahead;
        ahead.weights += t * a.ahead_tap;
        Fetching fetching(ahead, row * static_cast<int>(sizeof(Bf16)) / line_bytes, fetches_halves<vectors> ? ((a.end - a.begin) / 2 * 2 + inputs_per_turn - 1) / inputs_per_turn : 0);
        const auto at = [&](int i) { return weights + static_cast<std::ptrdiff_t>(listed ? a.weight_rows[i] : i) * row; };
        int inputs[tile];
        int i = a.begin;
        while (i + 1 < a.end) {
            if constexpr (fetches_halves<vectors>) fetching.turn();
            const int end = i + inputs_per_turn < a.end ? i + inputs_per_turn : a.end;
            for (; i + 1 < end; i += 2) {
#pragma GCC unroll 8
                for (int p = 0; p < tile; p++) __builtin_memcpy(&inputs[p], x[p] + i, sizeof(int));
                if constexpr (paired)
                    add_words<vectors, tile>(at(i), inputs, acc);
                else
                    add_pair<vectors, tile>(at(i), at(i + 1), inputs, acc);
            }
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
