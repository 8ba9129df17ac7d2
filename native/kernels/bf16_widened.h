// Sums of a product in bfloat16 without an instruction for it: weights and inputs are widened. Rows of weights lie in order.
// Included like bf16_simd.h, before it.

#include "bf16_in_order.h"

inline Vector all(Bf16 x) {
    const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
    float wide;
    __builtin_memcpy(&wide, &bits, sizeof(wide));
    return all(wide);
}

// Pairs of neighbouring inputs are read at once, and taken apart in registers: the first is the lower half.
typedef std::uint32_t Pairs __attribute__((vector_size(lanes * sizeof(std::uint32_t))));
inline Pairs both(const Bf16* x) {
    std::uint32_t pair;
    __builtin_memcpy(&pair, x, sizeof(pair));
    return pair - Pairs{};
}
inline Vector lower(Pairs pair) { return reinterpret_cast<Vector>(pair << 16); }
inline Vector upper(Pairs pair) { return reinterpret_cast<Vector>(pair & 0xffff0000u); }

// Inlined whatever the compiler thinks: as a call, its sums would live in memory.
template <int vectors, int tile, bool listed>
__attribute__((always_inline)) inline void accumulate(const Bf16Product& a, int position, Vector (&acc)[tile][vectors]) {
    constexpr int row = vectors * lanes;
    for (int t = 0; t < a.tap_count; t++) {
        const Bf16* x[tile];
        for (int p = 0; p < tile; p++) x[p] = a.rows[position + p] + a.taps[t];
        const Bf16* weights = a.weights + t * a.tap_stride;
        const auto at = [&](int i) { return weights + static_cast<std::ptrdiff_t>(listed ? a.weight_rows[i] : i) * row; };
        int i = a.begin;
        for (; i + 1 < a.end; i += 2) {
            Vector first[vectors], second[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) first[v] = load(at(i) + v * lanes), second[v] = load(at(i + 1) + v * lanes);
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) {
                const Pairs pair = both(x[p] + i);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) {
                    acc[p][v] += lower(pair) * first[v];
                    acc[p][v] += upper(pair) * second[v];
                }
            }
        }
        if (i == a.end) continue;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const Vector w = load(at(i) + v * lanes);
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) acc[p][v] += all(x[p][i]) * w;
        }
    }
}
