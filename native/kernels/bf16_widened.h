// Sums of a product in bfloat16 without an instruction for it: weights and inputs are widened. Rows of weights lie in order.
// Included like bf16_simd.h, before it.

#include "bf16_in_order.h"

// Inputs of each position that are widened at once: a tile's stay in the first-level cache.
constexpr int widened_at_once = 128;

inline void widen_inputs(const Bf16* from, int count, float* to) {
    int i = 0;
    for (; i + lanes <= count; i += lanes) store(to + i, load(from + i));
    if (i == count) return;
    // What does not fill a vector is widened with what is before it.
    if (count > lanes)
        store(to + count - lanes, load(from + count - lanes));
    else
        store(to + i, load_some(from + i, count - i));
}

// Inlined whatever the compiler thinks: as a call, its sums would live in memory. Inputs are widened first, so that each is one
// broadcast for all outputs.
template <int vectors, int tile, bool listed>
__attribute__((always_inline)) inline void accumulate(const Bf16Product& a, int position, Vector (&acc)[tile][vectors]) {
    constexpr int row = vectors * lanes;
    alignas(64) float x[tile][widened_at_once];
    for (int t = 0; t < a.tap_count; t++) {
        const Bf16* weights = a.weights + t * a.tap_stride;
        for (int begin = a.begin; begin < a.end; begin += widened_at_once) {
            const int count = a.end - begin < widened_at_once ? a.end - begin : widened_at_once;
            for (int p = 0; p < tile; p++) widen_inputs(a.rows[position + p] + a.taps[t] + begin, count, x[p]);
            for (int i = 0; i < count; i++) {
                const Bf16* one = weights + static_cast<std::ptrdiff_t>(listed ? a.weight_rows[begin + i] : begin + i) * row;
                Vector w[vectors];
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) w[v] = load(one + v * lanes);
#pragma GCC unroll 8
                for (int p = 0; p < tile; p++)
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++) acc[p][v] += all(x[p][i]) * w[v];
            }
        }
    }
}
