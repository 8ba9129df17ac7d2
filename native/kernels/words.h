// Products with positions along the lanes, of what is multiplied by twos (bfloat16) or fours (bytes): as many inputs as a
// word of 32 bits holds, which is a lane.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace convgate {

// sums[o][p] (begun at 0 if `first`) += sum over words k of the inputs of inputs[k][p], each times its weight of weights[o][k].
// Bytes of inputs have no sign (what is read as if it were larger, Int8Kernels::excess, is so already), those of weights have.
template <typename T>
struct WordColumns {
    using Word = std::conditional_t<sizeof(T) == 1, std::int32_t, float>;
    const Word* inputs;  // [words][positions]
    int words;
    const T* const* weights;  // per output, [words]
    int outputs;
    bool first;
    Word* sums;  // [outputs][positions]
    // Fetched meanwhile, or null: per output, what is read later.
    const T* const* ahead;
    std::ptrdiff_t ahead_offset;
    int ahead_count;
};

// to[r][j] = rows[r][offset + list[j]] for j < n; `list` ascends. A row's last word is filled up with 0. Reads up to 64 bytes
// from any element that is listed on, and may write as many behind a row: `to_stride` is at least as much more than n.
template <typename T>
using PickWords = void(const T* const* rows, std::ptrdiff_t offset, int count, const std::int32_t* list, int n, T* to, std::ptrdiff_t to_stride);

}  // namespace convgate
