// What is stored as bfloat16, computed on as float32, a stretch at a time.
#pragma once

#include <algorithm>

#include "../kernels/bf16.h"

namespace convgate {

constexpr int stretch = 256;

inline void widen(const Bf16Kernels& k, float* to, const Bf16* from, int n) { k.widen(to, from, n); }
inline void widen(const Bf16Kernels&, float* to, const float* from, int n) { std::copy_n(from, n, to); }
inline void narrow(const Bf16Kernels& k, Bf16* to, const float* from, int n) { k.narrow(to, from, n); }
inline void narrow(const Bf16Kernels&, float* to, const float* from, int n) { std::copy_n(from, n, to); }

// f(row, i, count) for each stretch [i, i + count) of `from`: changes `row`, which holds it, and which is then stored.
template <typename To, typename From, typename Function>
void in_floats(const Bf16Kernels& k, To* to, const From* from, int n, Function f) {
    alignas(64) float row[stretch];
    for (int i = 0; i < n; i += stretch) {
        const int count = std::min(stretch, n - i);
        widen(k, row, from + i, count);
        f(row, i, count);
        narrow(k, to + i, row, count);
    }
}

}  // namespace convgate
