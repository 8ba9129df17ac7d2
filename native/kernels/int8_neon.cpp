// Kernels for 8-bit integers on NEON without an instruction for quads.
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
constexpr bool widens = false;

#include "int8_pairs.h"

#include "int8_quads.h"

}  // namespace

extern const Kernels neon_kernels;
extern const Int8Kernels neon_int8_kernels;
const Int8Kernels neon_int8_kernels = table_of("neon", &neon_kernels);

}  // namespace convgate
