// Random programs, and a naive executor of programs.
#pragma once

#include <deque>
#include <memory>

#include "../runtime/program.h"
#include "testing.h"

namespace convgate::testing {

// A program with the arrays that it borrows.
struct OwnedProgram {
    Program program;
    std::deque<std::vector<float>> arrays;  // a deque: their memory stays where it is
    std::deque<std::vector<Bf16>> halves;
    Array array(Random&, std::vector<std::size_t> shape, float scale);
};

// A valid program: a chain of operations on values of odd sizes, with gates wherever they may be.
std::unique_ptr<OwnedProgram> random_program(Random&);
// The same with many channels at few positions.
std::unique_ptr<OwnedProgram> random_wide_program(Random&);
// A 3x3 convolution of so many weights that they come from memory, and on larger maps are not kept as Winograd's algorithm wants them.
std::unique_ptr<OwnedProgram> large_weights(Random&);
// Stores some of its values, and some of the weights that go with them, in bfloat16.
void store_in_bf16(Random&, OwnedProgram&);

// What a program computes for one sample, from the definition. Sums are in double precision.
struct Reference {
    std::vector<std::vector<float>> values;  // per value [channels][height][width]
    std::vector<std::vector<float>> logits;  // per gate
    std::vector<long long> macs;             // per layer
};
// `masks`: per gate, what it decides or is given. `known`: values that operations read instead of those computed
// before, where they are not empty.
Reference reference(const Program&, const std::vector<std::vector<float>>& inputs,
                    const std::vector<std::vector<std::uint8_t>>& masks, const std::vector<std::vector<float>>* known = nullptr);

}  // namespace convgate::testing
