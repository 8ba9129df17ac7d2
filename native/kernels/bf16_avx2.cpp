// bfloat16 on AVX2 and FMA: widened when it is read.
#include <immintrin.h>

#include <utility>

#include "bf16.h"

namespace convgate {
namespace {

constexpr int lanes = 8, VECTORS = 2;
typedef float Vector __attribute__((vector_size(32)));

inline __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vector load_some(const float* p, int n) { return reinterpret_cast<Vector>(_mm256_maskload_ps(p, first(n))); }
inline void store_some(float* p, Vector v, int n) { _mm256_maskstore_ps(p, first(n), reinterpret_cast<__m256>(v)); }

#include "bf16_avx2.h"
#include "bf16_widened.h"
#include "bf16_simd.h"

}  // namespace

extern const Kernels avx2_kernels;
extern const Bf16Kernels avx2_bf16_kernels;
const Bf16Kernels avx2_bf16_kernels = table_of<8, 5>("avx2", &avx2_kernels);

}  // namespace convgate
