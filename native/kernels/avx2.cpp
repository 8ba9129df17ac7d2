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

// The v-th vector of what eight elements of three rows become, a triple each.
template <int v>
inline __m256 triples(__m256 a, __m256 b, __m256 c) {
    constexpr auto of_row = [](int row) {
        int lanes = 0;
        for (int i = 0; i < 8; i++) lanes |= ((8 * v + i) % 3 == row) << i;
        return lanes;
    };
    constexpr int e = 8 * v, second = of_row(1), third = of_row(2);
    const __m256i at = _mm256_setr_epi32(e / 3, (e + 1) / 3, (e + 2) / 3, (e + 3) / 3, (e + 4) / 3, (e + 5) / 3, (e + 6) / 3, (e + 7) / 3);
    const __m256 two = _mm256_blend_ps(_mm256_permutevar8x32_ps(a, at), _mm256_permutevar8x32_ps(b, at), second);
    return _mm256_blend_ps(two, _mm256_permutevar8x32_ps(c, at), third);
}

// An image's planes to its pixels.
inline void transpose_three(const float* const* rows, std::ptrdiff_t offset, int n, float* to) {
    const float *a = rows[0] + offset, *b = rows[1] + offset, *c = rows[2] + offset;
    int i = 0;
    for (; i + 8 <= n; i += 8, to += 24) {
        const __m256 x = _mm256_loadu_ps(a + i), y = _mm256_loadu_ps(b + i), z = _mm256_loadu_ps(c + i);
        _mm256_storeu_ps(to, triples<0>(x, y, z));
        _mm256_storeu_ps(to + 8, triples<1>(x, y, z));
        _mm256_storeu_ps(to + 16, triples<2>(x, y, z));
    }
    for (; i < n; i++) *to++ = a[i], *to++ = b[i], *to++ = c[i];
}

void transpose(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to, std::ptrdiff_t to_stride) {
    if (count == 3 && to_stride == 3) return transpose_three(rows, offset, n, to);
    for (int r = 0; r < count; r += 8)
        for (int i = 0; i < n; i += 8)
            transpose_square(rows + r, offset + i, count - r < 8 ? count - r : 8, n - i < 8 ? n - i : 8, to + i * to_stride + r, to_stride);
}

#include "fill.h"

}  // namespace

extern const Kernels avx2_kernels;
const Kernels avx2_kernels = table_of<AtOnce{8, 10}, AtOnce{6, 6}>("avx2");

}  // namespace convgate
