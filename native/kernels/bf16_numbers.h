// Single numbers between float32 and bfloat16; for files that are compiled for any processor.
#pragma once

#include <bit>

#include "bf16.h"

namespace convgate {

inline float widened(Bf16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }
inline Bf16 rounded(float x) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    if (x != x) return {static_cast<std::uint16_t>(bits >> 16 | 0x40)};
    return {static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

}  // namespace convgate
