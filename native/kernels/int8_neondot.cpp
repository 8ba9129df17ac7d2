// Kernels for 8-bit integers on NEON with `sdot` (FEAT_DotProd), which multiplies quads that both have a sign.
#include <arm_neon.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "int8.h"

namespace convgate {
namespace {

constexpr int vector_bytes = 16;

#include "int8_rows.h"
#include "int8_neon.h"

constexpr bool flips(bool is_signed) { return !is_signed; }

#include "int8_dot.h"

inline Register dot(Register sum, Inputs inputs, Weights weights) { return bits(vdotq_s32(as_numbers(sum), as_bytes(inputs), as_bytes(weights))); }

#include "int8_quads.h"

}  // namespace

extern const Kernels neon_kernels;
extern const Int8Kernels neondot_int8_kernels;
const Int8Kernels neondot_int8_kernels = table_of("neondot", &neon_kernels);

}  // namespace convgate
