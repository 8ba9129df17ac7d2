// NEON with its instruction for bfloat16, `bfdot` (FEAT_BF16): sums of two products each, of pairs that are formed when weights
// are read. How it rounds between the two products is its own.
#include <arm_neon.h>

#include <cstring>
#include <utility>

#include "bf16.h"

namespace convgate {
namespace {

constexpr int lanes = 4, VECTORS = 4;
typedef float Vector __attribute__((vector_size(16)));

#include "neon.h"
#include "bf16_portable.h"

inline Vector largest(Vector a, Vector b) { return a > b ? a : b; }
inline Vector smallest(Vector a, Vector b) { return a < b ? a : b; }
inline Vector all(float x) { return x - Vector{}; }

template <int vectors, int tile>
__attribute__((always_inline)) inline void add_pair(const Bf16* a, const Bf16* b, const int (&inputs)[tile], Vector (&acc)[tile][vectors]) {
    bfloat16x8_t w[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        const uint16x4_t low = vld1_u16(&a[v * lanes].bits), high = vld1_u16(&b[v * lanes].bits);
        w[v] = vreinterpretq_bf16_u16(vcombine_u16(vzip1_u16(low, high), vzip2_u16(low, high)));
    }
#pragma GCC unroll 8
    for (int p = 0; p < tile; p++) {
        const bfloat16x8_t both = vreinterpretq_bf16_s32(vdupq_n_s32(inputs[p]));
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) acc[p][v] = Vector(vbfdotq_f32(float32x4_t(acc[p][v]), both, w[v]));
    }
}

// Inlined whatever the compiler thinks: as a call, its sums would live in memory.
template <int vectors, int tile, bool listed>
__attribute__((always_inline)) inline void accumulate(const Bf16Product& a, int position, Vector (&acc)[tile][vectors]) {
    constexpr int row = vectors * lanes;
    static constexpr Bf16 zeros[row] = {};
    for (int t = 0; t < a.tap_count; t++) {
        const Bf16* x[tile];
        for (int p = 0; p < tile; p++) x[p] = a.rows[position + p] + a.taps[t];
        const Bf16* weights = a.weights + t * a.tap_stride;
        const auto at = [&](int i) { return weights + static_cast<std::ptrdiff_t>(listed ? a.weight_rows[i] : i) * row; };
        int inputs[tile];
        int i = a.begin;
        for (; i + 1 < a.end; i += 2) {
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) __builtin_memcpy(&inputs[p], x[p] + i, sizeof(int));
            add_pair<vectors, tile>(at(i), at(i + 1), inputs, acc);
        }
        if (i == a.end) continue;
        for (int p = 0; p < tile; p++) inputs[p] = x[p][i].bits;
        add_pair<vectors, tile>(at(i), zeros, inputs, acc);
    }
}

int place(int o, int) { return o; }

#include "bf16_pack_by_index.h"
#include "bf16_simd.h"

}  // namespace

extern const Kernels neon_kernels;
extern const Bf16Kernels neonbf16_bf16_kernels;
const Bf16Kernels neonbf16_bf16_kernels = table_of<8, 8, 8, 6>("neonbf16", &neon_kernels);

}  // namespace convgate
