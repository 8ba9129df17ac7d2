// Positions or squares along the vector's lanes.
#pragma once

#include <algorithm>

#include "../kernels/even_parts.h"
#include "../kernels/table.h"

namespace convgate {

// In groups of as many vectors as a kernel computes, one after the other; the last lanes may be empty.
class InLanes {
public:
    InLanes(int count, const Kernels& kernels)
        : groups(ceil_div(ceil_div(count, kernels.lanes), kernels.vectors)), count_(count), lanes_(kernels.lanes) {}

    int begin(int group) const { return even_part(ceil_div(count_, lanes_), group, groups) * lanes_; }
    int row(int group) const { return begin(group + 1) - begin(group); }  // its lanes
    int size(int group) const { return std::min(begin(group + 1), count_) - begin(group); }
    int lanes() const { return begin(groups); }  // of all

    const int groups;

private:
    const int count_, lanes_;
};

}  // namespace convgate
