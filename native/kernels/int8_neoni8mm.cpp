// Kernels for 8-bit integers on NEON with `usdot` (FEAT_I8MM), which multiplies quads without a sign by quads with one.
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

constexpr bool flips(bool is_signed) { return is_signed; }

#include "int8_dot.h"

inline Register dot(Register sum, Inputs inputs, Weights weights) { return bits(vusdotq_s32(as_numbers(sum), inputs, as_bytes(weights))); }

#include "int8_quads.h"

}  // namespace

extern const Kernels neon_kernels;
extern const Int8Kernels neoni8mm_int8_kernels;
const Int8Kernels neoni8mm_int8_kernels = table_of("neoni8mm", &neon_kernels);

}  // namespace convgate
