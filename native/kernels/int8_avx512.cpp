// Kernels for 8-bit integers on AVX-512 (F, BW, DQ, VL) without its instruction for them.
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "int8.h"

namespace convgate {
namespace {

constexpr int vector_bytes = 64;

#include "int8_rows.h"
#include "int8_avx512.h"

constexpr bool widens = false;
constexpr int at_once = 2;
constexpr int squares_at_once(int vectors) { return vectors == 1 ? 16 : 12; }
constexpr int tile_of(int vectors) { return vectors == 1 ? 12 : 10; }

inline Register add_pairs(Register sum, Register a, Register b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }

#include "int8_pairs.h"

#include "int8_quads.h"
#include "int8_winograd.h"

}  // namespace

extern const Kernels avx512_kernels;
extern const Int8Kernels avx512_int8_kernels;
const Int8Kernels avx512_int8_kernels = with_winograd(table_of("avx512", &avx512_kernels));

}  // namespace convgate
