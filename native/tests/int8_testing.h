// What tests of kernels for 8-bit integers share: numbers, and how sums become bytes by the definition.
#pragma once

#include <algorithm>
#include <vector>

#include "../kernels/int8.h"
#include "testing.h"

namespace convgate::testing {

using Bytes = Guarded<std::uint8_t>;

// Products, sums and shifts in more bits than any kernel has.
inline std::int64_t brought(__int128 sum, std::int32_t multiplier, std::int32_t shift) {
    return static_cast<std::int64_t>((sum * multiplier + (__int128{1} << (shift - 1))) >> shift);
}

inline int value(std::uint8_t bits, bool is_signed) { return is_signed ? static_cast<std::int8_t>(bits) : bits; }

inline std::uint8_t byte(Random& random, bool is_signed) {
    const int limit = is_signed ? 127 : 255, least = is_signed ? -127 : 0;
    return static_cast<std::uint8_t>(random.chance(0.1) ? random.pick({least, limit, 0}) : random.from(least, limit));
}

inline std::vector<std::uint8_t> bytes(Random& random, std::size_t n, bool is_signed) {
    std::vector<std::uint8_t> values(n);
    for (std::uint8_t& x : values) x = byte(random, is_signed);
    return values;
}

inline std::vector<std::int8_t> weights_of(Random& random, std::size_t n, bool extreme) {
    std::vector<std::int8_t> values(n);
    for (std::int8_t& x : values) x = static_cast<std::int8_t>(extreme ? random.pick({-127, 127, 127, 127}) : random.from(-127, 127));
    return values;
}

// Multipliers and shifts of all sizes, biases, and clamps with and without a sign.
struct Finishing {
    Guarded<std::int32_t> multiplier, shift, bias;
    Int8Finish finish;
    Finishing(Random& random, int n) : multiplier(random, n), shift(random, n), bias(random, n) {
        const int usual = random.from(12, 26);
        const bool odd = random.chance(0.5);
        for (int o = 0; o < n; o++) {
            multiplier[o] = odd && random.chance(0.1) ? random.pick({0, 1, (1 << 15) - 1}) : random.from(1 << 14, (1 << 15) - 1);
            shift[o] = odd && random.chance(0.1) ? random.pick({1, 2, 16, 17, 31, 32, 33, 45, 46}) : usual;
            bias[o] = random.chance(0.1) ? random.pick({-(1 << 30), 1 << 30}) : random.from(-1000, 1000);
        }
        finish.multiplier = multiplier.data(), finish.shift = shift.data();
        finish.addend = {random.from(0, (1 << 15) - 1), random.chance(0.3) ? random.from(1, 46) : random.from(12, 16)};
        if (random.chance(0.3)) finish.addend = {1 << 14, 14};
        finish.addend_signed = random.chance(0.5);
        const bool is_signed = random.chance(0.5);
        finish.low = is_signed ? random.from(-127, 0) : 0, finish.high = random.from(0, is_signed ? 127 : 255);
    }
    std::uint8_t of(std::int64_t sum, int o, const std::uint8_t* addend) const {
        std::int64_t result = brought(sum, finish.multiplier[o], finish.shift[o]);
        if (addend) result += brought(value(*addend, finish.addend_signed), finish.addend.multiplier, finish.addend.shift);
        return static_cast<std::uint8_t>(std::clamp<std::int64_t>(result, finish.low, finish.high));
    }
};

}  // namespace convgate::testing
