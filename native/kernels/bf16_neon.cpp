// bfloat16 on NEON without its instructions for it: widened to float32.
#include <arm_neon.h>

#include <cstring>
#include <utility>

#include "bf16.h"

namespace convgate {
namespace {

constexpr int lanes = 4, VECTORS = 4;
typedef float Vector __attribute__((vector_size(16)));

#include "neon.h"
#include "bf16_portable.h"
#include "bf16_widened.h"
#include "bf16_simd.h"
#include "pack_lanes.h"
#include "bf16_winograd.h"

}  // namespace

extern const Kernels neon_kernels;
extern const Bf16Kernels neon_bf16_kernels;
const Bf16Kernels neon_bf16_kernels = with_winograd(table_of<8, 8, 8, 5>("neon", &neon_kernels));

}  // namespace convgate
