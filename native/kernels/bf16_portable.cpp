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

constexpr Bf16Kernels make(const Kernels* floats) {
    Bf16Kernels table{"portable", floats, lanes, VECTORS, {}, {}, place, pack_columns, depthwise<Bf16>, depthwise<float>, windows<Bf16>, windows<float>, widen, narrow};
    fill<1>(table, std::make_integer_sequence<int, 4>());
    fill<2>(table, std::make_integer_sequence<int, 4>());
    return table;
}

}  // namespace

extern const Kernels portable_kernels;
extern const Bf16Kernels portable_bf16_kernels;
const Bf16Kernels portable_bf16_kernels = make(&portable_kernels);

}  // namespace convgate
