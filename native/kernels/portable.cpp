// Vectors of four floats in the compiler's own terms: SSE2, NEON, or whatever the target has.
#include <cstring>
#include <utility>

#include "table.h"

namespace convgate {
namespace {

constexpr int lanes = 4, VECTORS = 2;
typedef float Vector __attribute__((vector_size(16)));

inline Vector load_some(const float* p, int n) {
    Vector v{};
    std::memcpy(&v, p, static_cast<std::size_t>(n) * sizeof(float));
    return v;
}
inline void store_some(float* p, Vector v, int n) { std::memcpy(p, &v, static_cast<std::size_t>(n) * sizeof(float)); }

inline void sums(const Vector (&v)[4], float* out) {
    for (int i = 0; i < 4; i++) out[i] = (v[i][0] + v[i][1]) + (v[i][2] + v[i][3]);
}

#include "pack_lanes.h"
#include "extremes.h"
#include "simd.h"
#include "winograd.h"
#include "pack_by_index.h"

void transpose(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to, std::ptrdiff_t to_stride) {
    for (int r = 0; r < count; r++)
        for (int i = 0; i < n; i++) to[i * to_stride + r] = rows[r][offset + i];
}

#include "fill.h"

}  // namespace

extern const Kernels portable_kernels;
const Kernels portable_kernels = table_of<AtOnce{4, 8}, AtOnce{4, 4}>("portable");

}  // namespace convgate
