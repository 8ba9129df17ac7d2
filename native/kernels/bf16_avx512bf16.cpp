// AVX-512 with its instruction for bfloat16, vdpbf16ps: sums of two products each. Which two inputs those are is decided
// when they are read, so any subset of them costs as much as all: two rows of weights are interleaved by unpacking, for
// which the outputs of two vectors lie in memory as the unpacking of 128-bit lanes wants them.
#include <immintrin.h>

#include <utility>

#include "bf16.h"

namespace convgate {
namespace {

#include "bf16_avx512.h"

inline __m256i rounded(Vector v) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(v))); }

inline Vector all(float x) { return reinterpret_cast<Vector>(_mm512_set1_ps(x)); }
// The instructions return their second operand where either is not a number.
inline Vector largest(Vector a, Vector b) {
    return reinterpret_cast<Vector>(_mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
}
inline Vector smallest(Vector a, Vector b) {
    return reinterpret_cast<Vector>(_mm512_min_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
}

// Four outputs of the first vector, four of the second, by turns; an odd last vector in order.
int place(int o, int vectors) {
    const int paired = vectors / 2 * 32, at = o % 32;
    return o < paired ? o - at + at % 16 / 4 * 8 + at / 16 * 4 + at % 4 : o;
}

// Rows `a` and `b`, output by output.
template <int vectors>
__attribute__((always_inline)) inline void interleave(const Bf16* a, const Bf16* b, __m512bh (&to)[vectors]) {
#pragma GCC unroll 2
    for (int v = 0; v + 1 < vectors; v += 2) {
        const __m512i low = _mm512_loadu_si512(a + v * lanes), high = _mm512_loadu_si512(b + v * lanes);
        to[v] = reinterpret_cast<__m512bh>(_mm512_unpacklo_epi16(low, high));
        to[v + 1] = reinterpret_cast<__m512bh>(_mm512_unpackhi_epi16(low, high));
    }
    if constexpr (vectors % 2) {
        constexpr int v = vectors - 1;
        const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + v * lanes)));
        const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + v * lanes)));
        to[v] = reinterpret_cast<__m512bh>(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}

constexpr bool pairs_rows = true;

template <int vectors, int tile>
__attribute__((always_inline)) inline void add_products(const __m512bh (&w)[vectors], const int (&inputs)[tile], Vector (&acc)[tile][vectors]) {
#pragma GCC unroll 8
    for (int p = 0; p < tile; p++) {
        const __m512bh both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(inputs[p]));
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            acc[p][v] = reinterpret_cast<Vector>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(acc[p][v]), both, w[v]));
    }
}

template <int vectors, int tile>
__attribute__((always_inline)) inline void add_pair(const Bf16* a, const Bf16* b, const int (&inputs)[tile], Vector (&acc)[tile][vectors]) {
    __m512bh w[vectors];
    interleave<vectors>(a, b, w);
    add_products<vectors, tile>(w, inputs, acc);
}

template <int vectors, int tile>
__attribute__((always_inline)) inline void add_words(const Bf16* words, const int (&inputs)[tile], Vector (&acc)[tile][vectors]) {
    __m512bh w[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) w[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(words + v * 2 * lanes));
    add_products<vectors, tile>(w, inputs, acc);
}

#include "bf16_pairs.h"

// From a stretch of at most 64 columns of a row: what of it goes where in up to two registers of packed columns.
struct Part {
    int from;
    __mmask32 low, high;    // of the stretch, what is read
    __m512i index[2];
    __mmask32 taken[2];
};

void pack_columns(const Bf16* from, std::ptrdiff_t from_stride, const std::int32_t* rows_list, int rows,
                  const std::int32_t* columns, int n, Bf16* to, std::ptrdiff_t to_stride) {
    static_assert(max_vectors * lanes == 64);
    const int panel = static_cast<int>(from_stride), row = static_cast<int>(to_stride);
    Part parts[64];
    int count = 0;
    for (int j = 0; j < n;) {
        const int base = columns[j] / panel * panel;
        alignas(64) std::uint16_t index[64] = {};
        std::uint64_t read = 0, taken = 0;
        for (; j < n && columns[j] / panel * panel == base; j++) {
            const int source = place(columns[j] - base, panel / lanes), target = place(j, row / lanes);
            index[target] = static_cast<std::uint16_t>(source);
            read |= std::uint64_t{1} << source;
            taken |= std::uint64_t{1} << target;
        }
        parts[count++] = {base,
                          static_cast<__mmask32>(read),
                          static_cast<__mmask32>(read >> 32),
                          {_mm512_load_si512(index), _mm512_load_si512(index + 32)},
                          {static_cast<__mmask32>(taken), static_cast<__mmask32>(taken >> 32)}};
    }
    const __mmask32 kept[2] = {row >= 32 ? ~0u : 0xffffu, row >= 64 ? ~0u : row > 32 ? 0xffffu : 0u};
    for (int r = 0; r < rows; r++) {
        const Bf16* source = from + (rows_list ? rows_list[r] : r) * from_stride;
        const int later = r + 12 < rows ? r + 12 : rows - 1;  // the rows come from memory
        const Bf16* ahead = from + (rows_list ? rows_list[later] : later) * from_stride;
        __m512i packed[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        for (int i = 0; i < count; i++) {
            const Part& part = parts[i];
            __builtin_prefetch(ahead + part.from);
            __builtin_prefetch(ahead + part.from + 32);
            // Masked: a row may be shorter than a stretch.
            const __m512i low = _mm512_maskz_loadu_epi16(part.low, source + part.from);
            const __m512i high = _mm512_maskz_loadu_epi16(part.high, source + part.from + 32);
            for (int d = 0; d < 2; d++)
                packed[d] = _mm512_mask_mov_epi16(packed[d], part.taken[d], _mm512_permutex2var_epi16(low, part.index[d], high));
        }
        _mm512_mask_storeu_epi16(to + r * to_stride, kept[0], packed[0]);
        _mm512_mask_storeu_epi16(to + r * to_stride + 32, kept[1], packed[1]);
    }
}

inline void add_product(Vector& sum, Vector a, Vector b) {
    sum = reinterpret_cast<Vector>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(b), reinterpret_cast<__m512bh>(a)));
}

// Sums are added in `product`'s order.
#include "columns_simd.h"

template <int vectors, int most>
void columns_in_order(const Columns& a) {
    columns_tiles<vectors, false>(a, std::make_integer_sequence<int, most>());
}

template <int vectors>
void pair_rows(const Bf16* weights, const std::int32_t* rows_list, int rows, float* to) {
    constexpr int row = vectors * lanes;
    alignas(64) static constexpr Bf16 zeros[row] = {};
    for (int r = 0; r < rows; r += 2, to += row) {
        const auto at = [&](int i) { return weights + static_cast<std::ptrdiff_t>(rows_list ? rows_list[i] : i) * row; };
        __m512bh words[vectors];
        interleave<vectors>(at(r), r + 1 < rows ? at(r + 1) : zeros, words);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) _mm512_storeu_si512(to + v * lanes, reinterpret_cast<__m512i>(words[v]));
    }
}

#include "bf16_simd.h"

constexpr Bf16Kernels with_columns(Bf16Kernels table) {
    table.columns[0] = columns_in_order<1, 12>;
    table.columns[1] = columns_in_order<2, 8>;
    table.columns[2] = columns_in_order<3, 8>;
    table.columns[3] = columns_in_order<4, 6>;
    table.pair_rows[0] = pair_rows<1>;
    table.pair_rows[1] = pair_rows<2>;
    table.pair_rows[2] = pair_rows<3>;
    table.pair_rows[3] = pair_rows<4>;
    return table;
}

}  // namespace

extern const Kernels avx512_kernels;
extern const Bf16Kernels avx512bf16_bf16_kernels;
const Bf16Kernels avx512bf16_bf16_kernels = with_columns(table_of<8, 8, 8, 6>("avx512bf16", &avx512_kernels));

}  // namespace convgate
