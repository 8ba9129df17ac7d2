// What all kernels for 8-bit integers agree on: one number at a time.
#pragma once

#include <algorithm>

#include "int8.h"

namespace convgate {

inline std::int64_t brought(std::int64_t sum, std::int32_t multiplier, std::int32_t shift) {
    return (sum * multiplier + (std::int64_t{1} << (shift - 1))) >> shift;
}

inline std::int32_t integer(std::uint8_t bits, bool is_signed) { return is_signed ? static_cast<std::int8_t>(bits) : bits; }

// A sum of output o as it is written; `addend` points to its addend, or is null.
inline std::uint8_t finished(const Int8Finish& f, std::int32_t sum, int o, const std::uint8_t* addend) {
    std::int64_t result = brought(sum, f.multiplier[o], f.shift[o]);
    if (addend) result += brought(integer(*addend, f.addend_signed), f.addend.multiplier, f.addend.shift);
    return static_cast<std::uint8_t>(std::clamp<std::int64_t>(result, f.low, f.high));
}

// A sum of a depthwise convolution.
inline std::int32_t depthwise_sum(const Int8Depthwise& a, int p, int c) {
    std::int32_t sum = a.start[c];
    for (int t = 0; t < a.tap_count; t++) {
        const std::int32_t four = a.weights[static_cast<std::ptrdiff_t>(t / 4) * a.channels + c];
        sum += integer(a.rows[p][a.taps[t] + c], a.is_signed) * static_cast<std::int8_t>(four >> t % 4 * 8);
    }
    return sum;
}

}  // namespace convgate
