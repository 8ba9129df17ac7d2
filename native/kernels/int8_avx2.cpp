// Kernels for 8-bit integers on AVX2.
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "int8.h"

namespace convgate {
namespace {

constexpr int vector_bytes = 32;

#include "int8_rows.h"
#include "int8_avx2.h"

constexpr bool widens = true;
constexpr int squares_at_once(int vectors) { return vectors == 1 ? 10 : 6; }
constexpr int tile_of(int vectors) { return vectors == 1 ? 8 : 6; }

inline Register add_pairs(Register sum, Register a, Register b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

#include "int8_pairs.h"

#include "int8_quads.h"
#include "int8_winograd.h"

}  // namespace

extern const Kernels avx2_kernels;
extern const Int8Kernels avx2_int8_kernels;
const Int8Kernels avx2_int8_kernels = with_winograd(table_of("avx2", &avx2_kernels));

}  // namespace convgate
