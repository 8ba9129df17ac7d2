// Where each value of a program lies in memory, and in which form.
#pragma once

#include "layer.h"

namespace convgate {

struct Layouts {
    std::vector<Layout> values;    // the program's values, then compact copies and conversions
    std::vector<std::vector<int>> reads;  // per operation: what it reads, its inputs or what they are converted to
    std::vector<int> writes;              // per operation: its output, or what that is converted from; -1 for decisions
    std::vector<int> in_place;     // per operation: 1 where a convolution's addend becomes its output
    std::vector<int> addend_done;  // per operation: 1 where the activation would not change the addend
    std::vector<int> compacted;    // per operation: the compact copy that it reads instead of its input, or -1
    std::size_t bytes = 0;         // memory for all, with values that do not live at the same time in the same place
};

Layouts lay_out(const Program&, std::vector<GateUse>&);

}  // namespace convgate
