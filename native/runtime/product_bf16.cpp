#include "product_bf16.h"

namespace convgate {

std::unique_ptr<Layer> make_bf16_product(const ConvolutionSpec& spec, Storage results, Needs& needs) {
    const Panels panels = packed_if(spec.masks_channels());
    if (results == Storage::f32) return std::make_unique<HalfProduct<float>>(spec, needs, panels);
    return std::make_unique<HalfProduct<Bf16>>(spec, needs, panels);
}

}  // namespace convgate
