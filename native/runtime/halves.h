// What layers that compute in bfloat16 share: numbers as they are stored, activations as bounds, and the ends of rows.
#pragma once

#include <cmath>
#include <optional>
#include <type_traits>

#include "../kernels/bf16_numbers.h"
#include "in_floats.h"
#include "program.h"

namespace convgate {

// A number of an array as it would be stored.
template <typename T>
float stored_as(const Array& a, std::size_t i) {
    if (a.halves) return widened(a.halves[i]);
    return std::is_same_v<T, float> ? a.data[i] : widened(rounded(a.data[i]));
}

// A number of a map.
template <typename T>
T as(float x) {
    if constexpr (std::is_same_v<T, Bf16>) return rounded(x);
    else return static_cast<T>(x);
}

// An activation that is nothing but these.
inline std::optional<Bf16Bounds> bounds_of(const Function& f) {
    switch (f.kind) {
        case Activation::none: return Bf16Bounds{-INFINITY, INFINITY};
        case Activation::relu: return Bf16Bounds{0, INFINITY};
        case Activation::relu6: return Bf16Bounds{0, 6};
        default: return std::nullopt;
    }
}

// Sums to their place: addend (or null), activation, and rounding if they are stored so. Changes the sums.
template <typename Out, typename Activate>
void finish_row(const Bf16Kernels& k, float* sums, const Out* addend, int n, Out* to, Activate activate) {
    if (addend)
        in_floats(k, sums, addend, n, [&](float* row, int i, int count) { k.floats->add(row, row, sums + i, count, Activation::none); });
    activate(sums, n);
    narrow(k, to, sums, n);
}

}  // namespace convgate
