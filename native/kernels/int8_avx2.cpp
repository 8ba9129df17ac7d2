// Kernels for 8-bit integers on AVX2. `vpmaddubsw` would be the instruction for bytes, but it saturates: two products of
// 255 * 127 do not fit into its 16 bits. So pairs of inputs and weights are widened to 16 bits, whose products `vpmaddwd`
// adds exactly; inputs may have a sign or not.
#include <immintrin.h>

#include <bit>
#include <cstring>

#include "int8_numbers.h"

namespace convgate {
namespace {

#include "int8_rows.h"

constexpr int lanes = 8, row = 16, tile = 4;
alignas(16) const std::int8_t no_weights[row] = {};

int place(int o) { return o; }

// Two inputs as the 16-bit halves of a lane.
inline int pair_of(std::uint8_t a, std::uint8_t b, bool is_signed) {
    const auto half = [&](std::uint8_t x) { return static_cast<std::uint32_t>(integer(x, is_signed)) & 0xffff; };
    return static_cast<int>(half(a) | half(b) << 16);
}

template <int n>
void block(const Int8Product& a, int position) {
    __m256i sums[n][2];
    alignas(32) std::int32_t done[row] = {};
    for (int v = 0; v < 2; v++) {
        const __m256i start = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.start + v * lanes));
        for (int p = 0; p < n; p++) sums[p][v] = start;
    }
    if (a.adds)
        for (int p = 0; p < n; p++) {
            std::copy_n(a.sums[position + p], a.width, done);
            for (int v = 0; v < 2; v++) sums[p][v] = _mm256_add_epi32(sums[p][v], _mm256_load_si256(reinterpret_cast<const __m256i*>(done + v * lanes)));
        }
    for (int t = 0; t < a.tap_count; t++) {
        const std::int8_t* weights = a.weights + t * a.tap_stride;
        const auto at = [&](int i) { return weights + static_cast<std::ptrdiff_t>(a.weight_rows ? a.weight_rows[i] : i) * row; };
        for (int i = 0; i < a.count; i += 2) {
            const bool both = i + 1 < a.count;
            const __m128i one = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at(i)));
            const __m128i other = _mm_loadu_si128(reinterpret_cast<const __m128i*>(both ? at(i + 1) : no_weights));
            const __m256i w[2] = {_mm256_cvtepi8_epi16(_mm_unpacklo_epi8(one, other)),
                                  _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(one, other))};
            for (int p = 0; p < n; p++) {
                const std::uint8_t* x = a.rows[position + p] + a.taps[t] + i;
                const __m256i inputs = _mm256_set1_epi32(pair_of(x[0], both ? x[1] : 0, a.is_signed));
                for (int v = 0; v < 2; v++) sums[p][v] = _mm256_add_epi32(sums[p][v], _mm256_madd_epi16(inputs, w[v]));
            }
        }
    }
    for (int p = 0; p < n; p++) {
        for (int v = 0; v < 2; v++) _mm256_store_si256(reinterpret_cast<__m256i*>(done + v * lanes), sums[p][v]);
        if (a.sums) {
            std::copy_n(done, a.width, a.sums[position + p]);
            continue;
        }
        const std::uint8_t* addend = a.addends ? a.addends[position + p] : nullptr;
        for (int o = 0; o < a.width; o++)
            if (a.outputs)
                a.outputs[position + p][o] = finished(a.finish, done[o], o, addend ? addend + o : nullptr);
            else
                a.floats[position + p][o] = static_cast<float>(done[o]) * a.scale[o];
    }
}

void product(const Int8Product& a) {
    int p = 0;
    for (; p + tile <= a.positions; p += tile) block<tile>(a, p);
    switch (a.positions - p) {
        case 3: return block<3>(a, p);
        case 2: return block<2>(a, p);
        case 1: return block<1>(a, p);
    }
}

void depthwise(const Int8Depthwise& a, int positions) {
    alignas(32) std::int32_t done[lanes];
    const auto write = [&](int p, int c, std::int32_t sum) {
        if (a.outputs)
            a.outputs[p][c] = finished(a.finish, sum, c, a.addends ? a.addends[p] + c : nullptr);
        else
            a.floats[p][c] = static_cast<float>(sum) * a.scale[c];
    };
    for (int p = 0; p < positions; p++) {
        int c = 0;
        for (; c + lanes <= a.channels; c += lanes) {
            __m256i sums = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.start + c));
            for (int t = 0; t < a.tap_count; t++) {
                const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(a.rows[p] + a.taps[t] + c));
                const __m256i quads = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.weights + static_cast<std::ptrdiff_t>(t / 4) * a.channels + c));
                const __m256i w = _mm256_srai_epi32(_mm256_sll_epi32(quads, _mm_cvtsi32_si128(24 - t % 4 * 8)), 24);
                sums = _mm256_add_epi32(sums, _mm256_mullo_epi32(a.is_signed ? _mm256_cvtepi8_epi32(x) : _mm256_cvtepu8_epi32(x), w));
            }
            _mm256_store_si256(reinterpret_cast<__m256i*>(done), sums);
            for (int o = 0; o < lanes; o++) write(p, c + o, done[o]);
        }
        for (; c < a.channels; c++) {
            std::int32_t sum = a.start[c];
            for (int t = 0; t < a.tap_count; t++) sum += integer(a.rows[p][a.taps[t] + c], a.is_signed) * weight(a, t, c);
            write(p, c, sum);
        }
    }
}

void pack_columns(const std::int8_t* from, const std::int32_t* rows_list, int rows, const std::int32_t* columns, int n, std::int8_t* to) {
    pack_in_order(place, row, from, rows_list, rows, columns, n, to);
}

constexpr Int8Kernels make(const char* name, const Kernels* floats) {
    return {name, floats, lanes, row, place, 0, product, depthwise, pack_columns, maxima, means, sum, complete, quantize, dequantize};
}

}  // namespace

extern const Kernels avx512_kernels, avx2_kernels;
extern const Int8Kernels avx2_int8_kernels, avx512_int8_kernels;
const Int8Kernels avx2_int8_kernels = make("avx2", &avx2_kernels);
const Int8Kernels avx512_int8_kernels = make("avx512", &avx512_kernels);

}  // namespace convgate
