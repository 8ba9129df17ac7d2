// bfloat16 in vectors of four floats, in the compiler's own terms.
#include <cstring>
#include <utility>

#include "bf16.h"

namespace convgate {
namespace {

constexpr int lanes = 4, VECTORS = 2;
typedef float Vector __attribute__((vector_size(16)));

inline Vector load_some(const float* p, int n) {
    Vector v{};
    std::memcpy(&v, p, static_cast<std::size_t>(n) * sizeof(float));
    return v;
}
inline void store_some(float* p, Vector v, int n) { std::memcpy(p, &v, static_cast<std::size_t>(n) * sizeof(float)); }

#include "bf16_portable.h"
#include "bf16_widened.h"
#include "bf16_simd.h"
#include "pack_lanes.h"
#include "bf16_winograd.h"

}  // namespace

extern const Kernels portable_kernels;
extern const Bf16Kernels portable_bf16_kernels;
const Bf16Kernels portable_bf16_kernels = with_winograd(table_of<4, 4>("portable", &portable_kernels));

}  // namespace convgate
