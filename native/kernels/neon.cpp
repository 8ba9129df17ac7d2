// NEON, which every processor with AArch64 has.
#include <arm_neon.h>

#include <utility>

#include "table.h"

namespace convgate {
namespace {

constexpr int lanes = 4, VECTORS = 4;
typedef float Vector __attribute__((vector_size(16)));

#include "neon.h"

inline void sums(const Vector (&v)[4], float* out) {
    const auto pairs = [&](int i) { return vpaddq_f32(float32x4_t(v[i]), float32x4_t(v[i + 1])); };
    vst1q_f32(out, vpaddq_f32(pairs(0), pairs(2)));
}

#include "pack_lanes.h"
#include "extremes.h"
#include "simd.h"
#include "winograd.h"
#include "pack_by_index.h"

// Four rows and four columns at a time.
void transpose(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to, std::ptrdiff_t to_stride) {
    int r = 0;
    for (; r + 4 <= count; r += 4) {
        int i = 0;
        for (; i + 4 <= n; i += 4) {
            float32x4_t v[4];
            for (int k = 0; k < 4; k++) v[k] = vld1q_f32(rows[r + k] + offset + i);
            const float32x4x2_t a = vzipq_f32(v[0], v[2]), b = vzipq_f32(v[1], v[3]);
            const float32x4x2_t c = vzipq_f32(a.val[0], b.val[0]), d = vzipq_f32(a.val[1], b.val[1]);
            vst1q_f32(to + i * to_stride + r, c.val[0]), vst1q_f32(to + (i + 1) * to_stride + r, c.val[1]);
            vst1q_f32(to + (i + 2) * to_stride + r, d.val[0]), vst1q_f32(to + (i + 3) * to_stride + r, d.val[1]);
        }
        for (; i < n; i++)
            for (int k = 0; k < 4; k++) to[i * to_stride + r + k] = rows[r + k][offset + i];
    }
    for (; r < count; r++)
        for (int i = 0; i < n; i++) to[i * to_stride + r] = rows[r][offset + i];
}

#include "fill.h"

}  // namespace

extern const Kernels neon_kernels;
const Kernels neon_kernels = table_of<AtOnce{8, 14}, AtOnce{8, 12}, AtOnce{8, 8}, AtOnce{6, 6}>("neon");

}  // namespace convgate
