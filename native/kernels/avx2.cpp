// AVX2 and FMA.
#include <immintrin.h>

#include <utility>

#include "table.h"

namespace convgate {
namespace {

constexpr int lanes = 8, VECTORS = 2;
typedef float Vector __attribute__((vector_size(32)));

inline __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vector load_some(const float* p, int n) { return reinterpret_cast<Vector>(_mm256_maskload_ps(p, first(n))); }
inline void store_some(float* p, Vector v, int n) { _mm256_maskstore_ps(p, first(n), reinterpret_cast<__m256>(v)); }

inline void sums(const Vector (&v)[4], float* out) {
    __m128 quarter[4];
    for (int i = 0; i < 4; i++) {
        const __m256 x = reinterpret_cast<__m256>(v[i]);
        quarter[i] = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    }
    const __m128 pairs = _mm_hadd_ps(quarter[0], quarter[1]), others = _mm_hadd_ps(quarter[2], quarter[3]);
    _mm_storeu_ps(out, _mm_hadd_ps(pairs, others));
}

#include "pack_lanes.h"
#include "simd.h"
#include "winograd.h"
#include "pack_by_index.h"
#include "transpose_by_element.h"
#include "fill.h"

}  // namespace

extern const Kernels avx2_kernels;
const Kernels avx2_kernels = table_of<AtOnce{8, 10}, AtOnce{6, 6}>("avx2");

}  // namespace convgate
