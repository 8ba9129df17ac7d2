// bfloat16 on AVX2 and FMA: widened to float32.
#include <immintrin.h>

#include <utility>

#include "bf16.h"

namespace convgate {
namespace {

#include "avx2_floats.h"

#include "bf16_avx2.h"
#include "bf16_widened.h"
#include "bf16_simd.h"
#include "bf16_winograd.h"

}  // namespace

extern const Kernels avx2_kernels;
extern const Bf16Kernels avx2_bf16_kernels;
const Bf16Kernels avx2_bf16_kernels = with_winograd(table_of<8, 6>("avx2", &avx2_kernels));

}  // namespace convgate
