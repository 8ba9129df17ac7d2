// Convolutions in bfloat16 with closed output channels, positions along the vector's lanes. Sums are those of
// product_bf16.cpp, added in the same order.
#include "along_lanes.h"
#include "halves.h"

namespace convgate {
namespace {

class HalfColumns final : public PositionsAlongLanes<Bf16, Bf16Kernels> {
public:
    // No position by itself: what is added in which order would depend on how many others are open.
    HalfColumns(const ConvolutionSpec& spec, Needs& needs)
        : PositionsAlongLanes(spec, *spec.halves, needs, [&](std::size_t i) { return rounded(stored_as<Bf16>(spec.operation->weight, i)); }),
          bias_(spec.out_channels()) {
        if (const float* bias = spec.operation->bias.data) std::copy_n(bias, spec.out_channels(), bias_.data());
    }

private:
    void add_single(const Item&, const Bf16* const*, std::ptrdiff_t, int, bool) const override {}

    void complete(const Item& item, const Groups& groups) const override {
        const Kernels& k = *spec_.kernels;
        float* const bias = following(item);
        for (int j = 0; j < item.outputs; j++) bias[j] = bias_[item.output(j)];
        for (const Group& group : groups) {
            float* row = by_position(item, group);
            for (int p = group.begin; p < group.begin + group.count; p++, row += item.outputs) {
                k.add(row, row, bias, item.outputs, Activation::none);
                activate(row, item.outputs);
                spec_.halves->narrow(item.scratch.halves.outputs[p], row, item.outputs);
            }
        }
    }

    Buffer bias_;
};

}  // namespace

bool suits_bf16_columns(const ConvolutionSpec& spec) {
    return spec.halves->columns[0] && spec.out->value.storage == Storage::bf16 && suits_along_lanes(spec, costs::halves_along_lanes);
}

std::unique_ptr<Layer> make_bf16_columns(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<HalfColumns>(spec, needs);
}

}  // namespace convgate
