// AVX2 and FMA.
#include <immintrin.h>

#include <utility>

#include "table.h"

namespace convgate {
namespace {

#include "avx2_floats.h"

inline void sums(const Vector (&v)[4], float* out) {
    __m128 quarter[4];
    for (int i = 0; i < 4; i++) {
        const __m256 x = reinterpret_cast<__m256>(v[i]);
        quarter[i] = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    }
    const __m128 pairs = _mm_hadd_ps(quarter[0], quarter[1]), others = _mm_hadd_ps(quarter[2], quarter[3]);
    _mm_storeu_ps(out, _mm_hadd_ps(pairs, others));
}

// The instructions return their second operand where either is not a number, and where both are zeros.
inline Vector largest(Vector a, Vector b) { return reinterpret_cast<Vector>(_mm256_max_ps(reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(a))); }
inline Vector smallest(Vector a, Vector b) { return reinterpret_cast<Vector>(_mm256_min_ps(reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(a))); }

#include "simd.h"
#include "winograd.h"
#include "pack_by_index.h"

// Up to eight rows of up to eight elements.
inline void transpose_square(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to, std::ptrdiff_t to_stride) {
    __m256 a[8], b[8];
    for (int r = 0; r < 8; r++) a[r] = r < count ? reinterpret_cast<__m256>(load_some(rows[r] + offset, n)) : _mm256_setzero_ps();
    for (int r = 0; r < 8; r += 2) b[r] = _mm256_unpacklo_ps(a[r], a[r + 1]), b[r + 1] = _mm256_unpackhi_ps(a[r], a[r + 1]);
    for (int r = 0; r < 8; r += 4)
        for (int i = 0; i < 2; i++) {
            a[r + 2 * i] = _mm256_shuffle_ps(b[r + i], b[r + 2 + i], 0x44);
            a[r + 2 * i + 1] = _mm256_shuffle_ps(b[r + i], b[r + 2 + i], 0xee);
        }
    // a[4 * h + j] now has column j of rows 4 * h to 4 * h + 3 in its lower half, column 4 + j in the upper one.
    for (int j = 0; j < 4; j++) {
        b[j] = _mm256_permute2f128_ps(a[j], a[4 + j], 0x20);
        b[4 + j] = _mm256_permute2f128_ps(a[j], a[4 + j], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        if (i < n) store_first(to + i * to_stride, b[i], count);
}

void transpose(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to, std::ptrdiff_t to_stride) {
    for (int r = 0; r < count; r += 8)
        for (int i = 0; i < n; i += 8)
            transpose_square(rows + r, offset + i, count - r < 8 ? count - r : 8, n - i < 8 ? n - i : 8, to + i * to_stride + r, to_stride);
}

#include "fill.h"

}  // namespace

extern const Kernels avx2_kernels;
const Kernels avx2_kernels = table_of<AtOnce{8, 10}, AtOnce{6, 6}>("avx2");

}  // namespace convgate
