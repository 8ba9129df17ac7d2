// Rows of all lanes of a block, of which some are open outputs (`kept`), beside rows of these alone.
#pragma once

#include <algorithm>
#include <cstdint>

namespace convgate {

// The lane of a block's j-th open output.
template <typename Block>
inline int lane_of(const Block& block, int j) {
    return block.kept ? block.kept[j] : j;
}

// From the elements `channels` (null: 0, 1, ..) of a row to the lanes; the others of `row` hold 0.
template <typename Block, typename T>
inline void to_lanes(const Block& block, const T* from, const std::int32_t* channels, T* to, int row) {
    std::fill_n(to, row, T{});
    for (int j = 0; j < block.width; j++) to[lane_of(block, j)] = from[channels ? channels[j] : j];
}

// And back.
template <typename Block, typename T>
inline void from_lanes(const Block& block, const T* from, const std::int32_t* channels, T* to) {
    for (int j = 0; j < block.width; j++) to[channels ? channels[j] : j] = from[lane_of(block, j)];
}

}  // namespace convgate
