// A program as the runtime takes it: `convgate.engine.program` with names resolved to numbers.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "../kernels/table.h"

namespace convgate {

struct Value {
    int channels, height, width;
    int positions() const { return height * width; }
};

struct Gate {
    bool spatial;
    int rows, columns, group;
    int units() const { return rows * columns; }
};

// Borrowed float32 data.
struct Array {
    const float* data = nullptr;
    std::vector<std::size_t> shape;
    std::size_t size() const {
        std::size_t n = data ? 1 : 0;
        for (std::size_t extent : shape) n *= extent;
        return n;
    }
};

struct Pair {
    int y = 1, x = 1;
};

enum class Kind { conv, pool, pool_to_grid, activate, affine, add, multiply, concat, slice, decide, mask };

struct Operation {
    Kind kind;
    std::vector<int> inputs;  // values
    int output;               // a value; a gate for `decide`
    Activation activation = Activation::none;
    Array weight, bias;  // conv; affine: scale and shift; decide: the offset, as weight
    Pair stride, dilation, kernel;
    int top = 0, left = 0;  // padding (below and to the right it follows from the output's size)
    int groups = 1;
    int positions = -1, in_channels = -1, out_channels = -1;  // gates, or -1
    int layer = -1;
    bool maximum = false, count_padding = true;
    int bottom = 0, right = 0;  // padding that counts in an average
    int begin = 0;
    int gate = -1;  // mask
    bool gate_is_spatial = false;
};

struct Program {
    std::vector<Value> values;
    std::vector<Gate> gates;
    std::vector<Operation> operations;
    std::vector<int> inputs, outputs;
    int layers = 0;
};

// Throws std::invalid_argument, with the operation's number, for anything that would read or write out of bounds.
void check(const Program&);

}  // namespace convgate
