// Kernels for 8-bit integers on AVX2. `vpmaddubsw` would be the instruction for bytes, but it saturates: two products of
// 255 * 127 do not fit into its 16 bits. So the bytes of a quad are widened to 16 bits by turns, whose products `vpmaddwd`
// adds exactly.
#include <immintrin.h>

#include <bit>
#include <cstring>
#include <utility>

#include "int8_numbers.h"

namespace convgate {
namespace {

#include "int8_rows.h"
#include "int8_avx2.h"

constexpr int tile_of(int vectors) { return vectors == 1 ? 8 : 4; }

// Of each quad the first and third byte, the second and fourth, as 16 bits.
struct Pairs {
    Register even, odd;
};
using Inputs = Pairs;
using Weights = Pairs;

inline Inputs inputs_of(Register v) { return {_mm256_and_si256(v, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(v, 8)}; }
inline Weights weights_of(Register v) { return {_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8)}; }
inline Register dot(Register sum, const Inputs& inputs, const Weights& weights) {
    const Register even = _mm256_madd_epi16(inputs.even, weights.even), odd = _mm256_madd_epi16(inputs.odd, weights.odd);
    return _mm256_add_epi32(_mm256_add_epi32(sum, even), odd);
}

#include "int8_quads.h"

constexpr Int8Kernels make(const char* name, const Kernels* floats) {
    return {name, floats, lanes, row, place, 128, product, depthwise, pack_by_permutation, maxima, means, sum, complete, quantize, dequantize};
}

}  // namespace

extern const Kernels avx512_kernels, avx2_kernels;
extern const Int8Kernels avx2_int8_kernels, avx512_int8_kernels;
const Int8Kernels avx2_int8_kernels = make("avx2", &avx2_kernels);
const Int8Kernels avx512_int8_kernels = make("avx512", &avx512_kernels);

}  // namespace convgate
