// Convolutions of integers with closed output channels, positions along the vector's lanes. Sums are exact, so a few positions
// beyond whole vectors are computed one by one, inputs along the lanes.
#include "along_lanes.h"

namespace convgate {
namespace {

constexpr int most_single = 4;                              // positions

class IntegerColumns final : public PositionsAlongLanes<std::uint8_t, Int8Kernels> {
public:
    IntegerColumns(const ConvolutionSpec& spec, Needs& needs)
        : PositionsAlongLanes(spec, *spec.integers, needs,
                              [&](std::size_t i) { return static_cast<std::uint8_t>(spec.operation->weight.bytes[i]); },
                              most_single, spec.integers->excess(spec.in->value.is_signed()) != 0),
          following_(3 * static_cast<std::size_t>(spec.out_channels())) {
        const Operation& op = *spec_.operation;
        const int outs = spec_.out_channels(), excess = spec.integers->excess(spec.in->value.is_signed());
        for (int o = 0; o < outs; o++) {
            // Modulo 2^32, as the kernels' sums.
            std::uint32_t sum = 0;
            for (std::size_t i = 0; i < output_size(); i++) sum += static_cast<std::uint32_t>(static_cast<std::int8_t>(weights_of(o)[i]));
            const std::uint32_t bias = op.bias.integers ? static_cast<std::uint32_t>(op.bias.integers[o]) : 0;
            following_[o] = static_cast<std::int32_t>(bias - static_cast<std::uint32_t>(excess) * sum);
            following_[outs + o] = op.multiplier.integers[o];
            following_[2 * outs + o] = op.shifts.integers[o];
        }
    }

private:
    void add_single(const Item& item, const std::uint8_t* const* weights, std::ptrdiff_t offset, int count, bool first) const override {
        Int8Dots args{};
        args.rows = item.scratch.bytes.rows.data() + item.in_lanes();
        args.positions = item.single;
        args.offset = offset;
        args.count = count;
        args.is_signed = spec_.in->value.is_signed();
        args.weights = weights;
        args.outputs = item.outputs;
        args.first = first;
        args.sums = sums_of_single(item);
        spec_.integers->dots(args);
    }

    void complete(const Item& item, const Groups& groups) const override {
        const int n = item.outputs, outs = spec_.out_channels();
        std::int32_t* const numbers = following(item);
        for (int kind = 0; kind < 3; kind++)
            for (int j = 0; j < n; j++) numbers[kind * n + j] = following_[static_cast<std::size_t>(kind) * outs + item.output(j)];
        Int8Rows args{};
        args.start = numbers;
        args.width = n;
        args.finish = spec_.finish(numbers + n, numbers + 2 * n);
        for (const Group& group : groups) finish(item, args, by_position(item, group), group.begin, group.count);
        if (item.single > 0) finish(item, args, sums_of_single(item), item.in_lanes(), item.single);
    }

    // Sums [position][output] of positions [p, p + count).
    void finish(const Item& item, Int8Rows& args, const std::int32_t* sums, int p, int count) const {
        Scratch& scratch = item.scratch;
        for (int i = 0; i < count; i++) scratch.sums.rows[i] = sums + static_cast<std::ptrdiff_t>(i) * item.outputs;
        args.sums = scratch.sums.rows.data();
        args.positions = count;
        args.outputs = scratch.bytes.outputs.data() + p;
        spec_.integers->finish(args);
    }

    std::vector<std::int32_t> following_;  // biases, less what inputs are read too large; multipliers; shifts
};

}  // namespace

bool suits_integer_columns(const ConvolutionSpec& spec) {
    // What sums start at would depend on which inputs are closed, where these are read as if they were larger.
    const bool starts_alike = spec.operation->in_channels < 0 || !spec.integers->excess(spec.in->value.is_signed());
    return spec.integers->columns[0] && integral(spec.out->value.storage) && !summed(spec.out->value.storage) && starts_alike &&
           suits_along_lanes(spec, costs::bytes_along_lanes);
}

std::unique_ptr<Layer> make_integer_columns(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<IntegerColumns>(spec, needs);
}

}  // namespace convgate
