// Products of many outputs at many positions, with output channels along the lanes; part of simd.h.

inline Whole clamped(Whole count) { return count; }
inline int clamped(int count) { return count < lanes ? count : lanes; }
inline bool is_nothing(Whole) { return false; }
inline bool is_nothing(int count) { return count <= 0; }

// Whether a block's kernel fetches what comes next; a narrower one's loads are its bottleneck.
template <int vectors>
constexpr bool fetches = vectors == VECTORS;

// -- products: output channels along the lanes ---------------------------------------------------------------------

// With so many inputs a part of what comes next is fetched.
constexpr int inputs_per_turn = 16;

// Inlined whatever the compiler thinks: as a call, its sums would live in memory.
template <int vectors, int tile, bool listed>
__attribute__((always_inline)) inline void accumulate(const Product& a, int position, Vector (&acc)[tile][vectors]) {
    constexpr int row = vectors * lanes;
    for (int t = 0; t < a.tap_count; t++) {
        const float* x[tile];
        for (int p = 0; p < tile; p++) x[p] = a.rows[position + p] + a.taps[t];
        const float* const weights = a.weights + t * a.tap_stride;
        Ahead ahead = a.ahead;
        ahead.weights += t * a.ahead_tap;
        Fetching fetching(ahead, (row + line - 1) / line, fetches<vectors> ? (a.end - a.begin + inputs_per_turn - 1) / inputs_per_turn : 0);
        for (int begin = a.begin; begin < a.end; begin += inputs_per_turn) {
            if constexpr (fetches<vectors>) fetching.turn();
            const int end = begin + inputs_per_turn < a.end ? begin + inputs_per_turn : a.end;
#pragma GCC unroll 2
            for (int i = begin; i < end; i++) {
                const float* w = weights + static_cast<std::ptrdiff_t>(listed ? a.weight_rows[i] : i) * row;
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
    a.weight_rows ? accumulate<vectors, tile, true>(a, position, acc) : accumulate<vectors, tile, false>(a, position, acc);
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
