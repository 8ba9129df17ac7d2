// Kernels for 8-bit integers with `vpdpbusd`, which multiplies four inputs without a sign by four weights with one, and adds
// the products to an int32.
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

constexpr int at_once = 4;
constexpr int tile_of(int vectors) { return vectors <= 2 ? 12 : vectors == 3 ? 8 : 6; }

#include "int8_dot.h"

inline Register dot(Register sum, Inputs inputs, Weights weights) { return _mm512_dpbusd_epi32(sum, inputs, weights); }
inline Register add_pairs(Register sum, Register a, Register b) { return _mm512_dpwssd_epi32(sum, a, b); }

#include "int8_quads.h"
#include "int8_along_lanes.h"

}  // namespace

extern const Kernels avx512_kernels;
extern const Int8Kernels avx512vnni_int8_kernels;
const Int8Kernels avx512vnni_int8_kernels = with_columns(table_of("avx512vnni", &avx512_kernels));

}  // namespace convgate
