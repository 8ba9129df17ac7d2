// Between a caller's arrays, [channels][height][width], and a sample's values, which hold the channels of a position together.
#pragma once

#include "layer.h"

namespace convgate {

class Plan;

Needs needs_of_input(const Value&);
Needs needs_of_output(const Value&);

// Rounds what is stored as bfloat16. Throws std::domain_error for an input that is not finite.
void read_input(const Plan&, Sample&, const Layout&, const float* from, Team&);
void write_output(const Plan&, Sample&, const Layout&, float* to, Team&);

}  // namespace convgate
