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
#include "bf16_in_order.h"

constexpr bool pairs_rows = false;

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

#include "bf16_pairs.h"

#include "bf16_simd.h"

}  // namespace

extern const Kernels neon_kernels;
extern const Bf16Kernels neonbf16_bf16_kernels;
const Bf16Kernels neonbf16_bf16_kernels = table_of<8, 8, 8, 6>("neonbf16", &neon_kernels);

}  // namespace convgate
