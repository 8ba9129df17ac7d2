// bfloat16 on AVX-512 (F, BW, DQ, VL) without its instructions for it: widened to float32.
#include <immintrin.h>

#include <utility>

#include "bf16.h"

namespace convgate {
namespace {

#include "bf16_avx512.h"

inline __m256i rounded(Vector v) {
    const __m512 x = reinterpret_cast<__m512>(v);
    const __m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i nearest = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 unordered = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(nearest, unordered, quiet), 16));
}

#include "bf16_widened.h"
#include "bf16_simd.h"
#include "bf16_winograd.h"

}  // namespace

extern const Kernels avx512_kernels;
extern const Bf16Kernels avx512_bf16_kernels;
const Bf16Kernels avx512_bf16_kernels = with_winograd(table_of<8, 8, 8, 5>("avx512", &avx512_kernels));

}  // namespace convgate
