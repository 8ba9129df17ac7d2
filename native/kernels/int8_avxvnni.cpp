// Kernels for 8-bit integers with AVX-VNNI: `vpdpbusd` on registers of AVX2, for processors that have no AVX-512.
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

constexpr int tile_of(int vectors) { return vectors == 1 ? 10 : 6; }

#include "int8_dot.h"

inline Register dot(Register sum, Inputs inputs, Weights weights) { return _mm256_dpbusd_avx_epi32(sum, inputs, weights); }
inline Register add_pairs(Register sum, Register a, Register b) { return _mm256_dpwssd_avx_epi32(sum, a, b); }

#include "int8_quads.h"

}  // namespace

extern const Kernels avx2_kernels;
extern const Int8Kernels avxvnni_int8_kernels;
const Int8Kernels avxvnni_int8_kernels = table_of("avxvnni", &avx2_kernels);

}  // namespace convgate
