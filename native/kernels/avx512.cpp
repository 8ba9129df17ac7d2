// AVX-512 (F, BW, DQ, VL).
#include <immintrin.h>

#include <utility>

#include "table.h"

namespace convgate {
namespace {

#include "avx512_floats.h"

inline void sums(const Vector (&v)[4], float* out) {
    __m128 quarter[4];
    for (int i = 0; i < 4; i++) {
        const __m512 x = reinterpret_cast<__m512>(v[i]);
        const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
        quarter[i] = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    }
    const __m128 pairs = _mm_hadd_ps(quarter[0], quarter[1]), others = _mm_hadd_ps(quarter[2], quarter[3]);
    _mm_storeu_ps(out, _mm_hadd_ps(pairs, others));
}

#include "extremes.h"
#include "simd.h"
#include "winograd.h"

// A group of 16 source columns becomes a run of at most 16 packed ones.
void pack_columns(const float* from, std::ptrdiff_t from_stride, const std::int32_t* rows_list, int rows,
                  const std::int32_t* columns, int n, float* to, std::ptrdiff_t to_stride) {
    struct Run {
        int column, place;
        __mmask16 mask;
        bool whole;
    };
    Run runs[max_vectors * lanes];
    int count = 0;
    for (int j = 0; j < n;) {
        Run run{columns[j], j, 0, false};
        for (; j < n && columns[j] < run.column + lanes; j++) run.mask |= static_cast<__mmask16>(1u << (columns[j] - run.column));
        run.whole = run.mask == 0xffff;
        runs[count++] = run;
    }
    for (int r = 0; r < rows; r++) {
        const float* source = from + (rows_list ? rows_list[r] : r) * from_stride;
        float* target = to + r * to_stride;
        const int later = r + 12 < rows ? r + 12 : rows - 1;  // the rows come from memory
        const float* ahead = from + (rows_list ? rows_list[later] : later) * from_stride;
        for (int i = 0; i < count; i++) {
            const Run& run = runs[i];
            __builtin_prefetch(ahead + run.column);
            // Masked: the last group of a row may end past the array.
            const __m512 group = _mm512_maskz_loadu_ps(run.mask, source + run.column);
            const __m512 packed = run.whole ? group : _mm512_maskz_compress_ps(run.mask, group);
            // What a store writes past its run the next one overwrites; past the row it must not.
            if (run.place + lanes <= n)
                _mm512_storeu_ps(target + run.place, packed);
            else
                _mm512_mask_storeu_ps(target + run.place, first(n - run.place), packed);
        }
    }
}

// 16 x 16 at a time: pairs of rows are interleaved until a register holds one column.
inline void transpose_square(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to,
                             std::ptrdiff_t to_stride) {
    __m512 a[16], b[16];
    const __mmask16 columns = first(n), kept = first(count);
    for (int r = 0; r < 16; r++)
        a[r] = r < count ? _mm512_maskz_loadu_ps(columns, rows[r] + offset) : _mm512_setzero_ps();
    for (int r = 0; r < 16; r += 2) {
        b[r] = _mm512_unpacklo_ps(a[r], a[r + 1]);
        b[r + 1] = _mm512_unpackhi_ps(a[r], a[r + 1]);
    }
    for (int r = 0; r < 16; r += 4)
        for (int i = 0; i < 2; i++) {
            a[r + 2 * i] = _mm512_shuffle_ps(b[r + i], b[r + 2 + i], 0x44);
            a[r + 2 * i + 1] = _mm512_shuffle_ps(b[r + i], b[r + 2 + i], 0xee);
        }
    // a[4 * i + j] now has, in its quarter q, column 4 * q + j of rows 4 * i to 4 * i + 3.
    for (int j = 0; j < 4; j++) {
        const __m512 low = _mm512_shuffle_f32x4(a[j], a[4 + j], 0x44), high = _mm512_shuffle_f32x4(a[j], a[4 + j], 0xee);
        const __m512 low2 = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0x44);
        const __m512 high2 = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0xee);
        b[j] = _mm512_shuffle_f32x4(low, low2, 0x88);
        b[4 + j] = _mm512_shuffle_f32x4(low, low2, 0xdd);
        b[8 + j] = _mm512_shuffle_f32x4(high, high2, 0x88);
        b[12 + j] = _mm512_shuffle_f32x4(high, high2, 0xdd);
    }
    for (int i = 0; i < 16; i++)
        if (i < n) _mm512_mask_storeu_ps(to + i * to_stride, kept, b[i]);
}

// Three rows to one of triples, as an image's planes to its pixels.
inline void transpose_three(const float* const* rows, std::ptrdiff_t offset, int n, float* to) {
    // Not std::array, whose functions would be compiled for AVX-512 and shared with the rest of the program at -O0.
    struct Places {
        alignas(64) std::int32_t at[6][16];
    };
    static constexpr Places places = [] {
        Places p{};
        for (int i = 0; i < 48; i++) {
            p.at[i / 16][i % 16] = i / 3 + (i % 3 == 1 ? 16 : 0);               // in the first two rows
            p.at[3 + i / 16][i % 16] = i % 3 == 2 ? 16 + i / 3 : i % 16;  // in those and the third
        }
        return p;
    }();
    const auto place = [](int i) { return _mm512_load_si512(places.at[i]); };
    for (int i = 0; i < n; i += 16, to += 48) {
        const __mmask16 there = first(n - i < 16 ? n - i : 16);
        __m512 row[3];
        for (int r = 0; r < 3; r++) row[r] = _mm512_maskz_loadu_ps(there, rows[r] + offset + i);
        for (int v = 0; v < 3; v++) {
            const __m512 two = _mm512_permutex2var_ps(row[0], place(v), row[1]);
            const int left = 3 * (n - i) - 16 * v;
            if (left > 0) _mm512_mask_storeu_ps(to + 16 * v, first(left < 16 ? left : 16), _mm512_permutex2var_ps(two, place(3 + v), row[2]));
        }
    }
}

void transpose(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to, std::ptrdiff_t to_stride) {
    if (count == 3 && to_stride == 3) return transpose_three(rows, offset, n, to);
    for (int r = 0; r < count; r += 16)
        for (int i = 0; i < n; i += 16)
            transpose_square(rows + r, offset + i, count - r < 16 ? count - r : 16, n - i < 16 ? n - i : 16,
                             to + i * to_stride + r, to_stride);
}

#include "fill.h"

}  // namespace

extern const Kernels avx512_kernels;
const Kernels avx512_kernels = table_of<AtOnce{8, 14}, AtOnce{8, 12}, AtOnce{8, 8}, AtOnce{6, 6}>("avx512");

}  // namespace convgate
